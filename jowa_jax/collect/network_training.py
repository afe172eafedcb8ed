"""PPO of stable-baselines3 on a game's memory; needs the extra `dream`."""

import pathlib
import time
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from absl import logging
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from jowa_jax.collect import networks
from jowa_jax.collect.networks import (
  LOOKS,
  MEMORY,
  MemoryNetwork,
)
from jowa_jax.collect.player_config import ROLLOUT, PlayerConfig
from jowa_jax.envs import ale
from jowa_jax.stable_baselines_env import OneVecEnv

# Decisions of a batch of an update.
_BATCH = 512
# An episode begins with up to so many random decisions.
_BEGINNINGS = 8
_LOGGED_EVERY = 30.0  # seconds
_RECENT = 60  # episodes whose mean score is told


class MemoryVecEnv(OneVecEnv):
  """A game as stable-baselines3 steps it, seen by its memory.

  An observation is the memory after the last two decisions, [256] of 0 to 255.
  Rewards are clipped to {-1, 0, 1}, and a lost life ends what is learned from,
  though the game goes on.
  """

  def __init__(self, config: PlayerConfig):
    self._config = config
    self._actions = np.array(config.choices)
    count = config.environments
    self._emulators = [
      ale.make_emulator(config.game, config.seed + i, 0.0, ale.FRAME_SKIP)
      for i in range(count)
    ]
    self._rng = np.random.default_rng(config.seed)
    self._decisions = np.zeros(count, int)  # of the episode
    self._score = np.zeros(count)
    self._lives = np.zeros(count, int)
    self._seen = np.zeros((count, LOOKS, MEMORY), np.uint8)
    self.scores: list[float] = []  # of all episodes, unclipped
    super().__init__(
      count,
      gymnasium.spaces.Box(0, 255, (LOOKS * MEMORY,), np.float32),
      gymnasium.spaces.Discrete(len(self._actions)),
    )

  def reset(self) -> np.ndarray:
    for row in range(self.num_envs):
      self._begin(row)
    return self._observations()

  def step_async(self, actions: np.ndarray) -> None:
    self._chosen = actions

  def step_wait(
    self,
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    count = self.num_envs
    rewards, ended = np.zeros(count, np.float32), np.zeros(count, bool)
    infos: list[dict[str, Any]] = [{} for _ in range(count)]
    random = self._rng.random(count) < self._config.epsilon
    drawn = self._rng.integers(len(self._actions), size=count)
    chosen = self._actions[np.where(random, drawn, self._chosen)]
    for row, emulator in enumerate(self._emulators):
      points = emulator.act(int(chosen[row]))
      rewards[row] = np.sign(points)
      self._score[row] += points
      self._decisions[row] += 1
      self._seen[row] = [self._seen[row, -1], emulator.getRAM()]
      over = emulator.game_over()
      cut = self._decisions[row] >= self._config.max_episode_steps
      lost = emulator.lives() < self._lives[row]
      ended[row] = over or cut or lost
      if not ended[row]:
        continue
      infos[row] = {
        'terminal_observation': self._seen[row].reshape(-1).astype(np.float32),
        'TimeLimit.truncated': bool(cut and not over and not lost),
      }
      if over or cut:
        self.scores.append(float(self._score[row]))
        self._begin(row)
      else:
        self._look(row)
    return self._observations(), rewards, ended, infos

  def close(self) -> None:
    self._emulators.clear()

  def _begin(self, row: int) -> None:
    """A new game, some random decisions on."""
    emulator = self._emulators[row]
    emulator.reset_game()
    begun = int(self._rng.integers(_BEGINNINGS))
    for action in self._rng.choice(self._actions, begun):
      emulator.act(int(action))
      if emulator.game_over():
        emulator.reset_game()
    self._decisions[row], self._score[row] = begun, 0.0
    self._look(row)

  def _look(self, row: int) -> None:
    """What an episode begins with."""
    self._lives[row] = self._emulators[row].lives()
    self._seen[row] = self._emulators[row].getRAM()

  def _observations(self) -> np.ndarray:
    return self._seen.reshape(self.num_envs, -1).astype(np.float32)


class _Progress(BaseCallback):
  """Keeps checkpoints, and tells how scores go on."""

  def __init__(
    self, config: PlayerConfig, output: pathlib.Path, normalized: VecNormalize
  ):
    super().__init__()
    self._config, self._output = config, output
    self._normalized = normalized
    self._kept, self._logged = 0, time.monotonic()

  def _on_step(self) -> bool:
    return True

  def _on_rollout_end(self) -> None:
    done = self.num_timesteps / self._config.decisions
    # SB3 has no schedule of it.
    self.model.ent_coef = 0.001 + 0.01 * max(1 - done, 0)
    # The first is of the beginning: next to random play.
    due = self._kept / max(self._config.checkpoints - 1, 1)
    if self._kept < self._config.checkpoints - 1 and done >= due:
      self.keep()
    if time.monotonic() - self._logged > _LOGGED_EVERY:
      self._logged = time.monotonic()
      recent = self._normalized.venv.scores[-_RECENT:]
      logging.info(
        '%s: %d decisions, mean score %.1f of the last %d episodes',
        *(self._config.game, self.num_timesteps),
        *(np.mean(recent) if recent else np.nan, len(recent)),
      )

  def keep(self) -> None:
    """Writes the network as it is."""
    path = self._output / f'checkpoint_{self._kept:02d}.npz'
    networks.save(path, _network(self.model, self._normalized, self._config))
    self._kept += 1


def _network(
  model: PPO, normalized: VecNormalize, config: PlayerConfig
) -> MemoryNetwork:
  """What plays like the likeliest actions of a model."""
  state = {
    name: value.numpy().copy()
    for name, value in model.policy.state_dict().items()
  }
  layers = [
    *('mlp_extractor.policy_net.0', 'mlp_extractor.policy_net.2'),
    'action_net',
  ]
  moments = normalized.obs_rms
  return MemoryNetwork(
    game=config.game,
    actions=config.choices,
    decisions=model.num_timesteps,
    trained_by=f'PPO of stable-baselines3 {stable_baselines3.__version__}',
    mean=moments.mean.astype(np.float32),
    deviation=np.sqrt(moments.var + normalized.epsilon).astype(np.float32),
    weights=tuple(state[f'{layer}.weight'] for layer in layers),
    biases=tuple(state[f'{layer}.bias'] for layer in layers),
  )


def train(config: PlayerConfig, output: pathlib.Path) -> list[float]:
  """Trains a player and writes `checkpoint_<i>.npz` to a directory.

  Returns:
    The unclipped scores of all episodes that it played, in order.
  """
  torch.set_num_threads(1)
  envs = MemoryVecEnv(config)
  normalized = VecNormalize(envs, clip_obs=networks.CLIP, gamma=0.99)
  model = PPO(
    'MlpPolicy',
    normalized,
    n_steps=ROLLOUT,
    batch_size=min(_BATCH, ROLLOUT * config.environments),
    n_epochs=4,
    learning_rate=lambda left: 1e-5 + 5e-4 * max(left, 0.0),
    policy_kwargs={
      'net_arch': [256, 256],
      'activation_fn': torch.nn.ReLU,
    },
    seed=config.seed,
    device='cpu',
  )
  progress = _Progress(config, output, normalized)
  model.learn(config.decisions, callback=progress)
  progress.keep()
  return envs.scores
