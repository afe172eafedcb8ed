"""PPO of stable-baselines3 in dreamed environments; needs the extra `dream`."""

import pathlib
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from absl import logging
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecMonitor

from jowa_jax.agent import Agent
from jowa_jax.envs.dream import Contexts, DreamVectorEnv
from jowa_jax.play.pupil import Pupil, PupilConfig, appended
from jowa_jax.stable_baselines_env import OneVecEnv
from jowa_jax.train.identity import weights_digest

# Of the vector that stands for a token.
_WIDTH = 16
# Steps of each environment between two updates, and of a batch of one.
_ROLLOUT, _BATCH = 64, 128
_LOGGED = 10  # times in all


class DreamVecEnv(OneVecEnv):
  """Dreamed environments as stable-baselines3 steps them, all in one call.

  An observation is the tokens of the last frames, [F * K], as numbers of a
  `Box`, since a `MultiDiscrete` would be made one-hot.
  """

  def __init__(self, envs: DreamVectorEnv, frames: int):
    """Wraps environments.

    Args:
      envs: that show tokens and begin again in the step that ends an episode.
      frames: F.
    """
    if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
      raise ValueError('stable-baselines3 expects AutoresetMode.SAME_STEP')
    choices = envs.single_observation_space.nvec
    space = gymnasium.spaces.Box(
      0, choices.max() - 1, (frames * len(choices),), np.int32
    )
    self._envs, self._frames = envs, frames
    super().__init__(envs.num_envs, space, envs.single_action_space)

  def reset(self) -> np.ndarray:
    tokens, _ = self._envs.reset(seed=self._seeds)
    self._reset_seeds()
    empty = np.zeros((self.num_envs, self._frames, tokens.shape[1]), np.int32)
    self._seen = appended(empty, tokens, np.ones(self.num_envs, bool))
    return self._flat(self._seen)

  def step_async(self, actions: np.ndarray) -> None:
    self._actions = actions

  def step_wait(
    self,
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    tokens, rewards, terminated, truncated, info = self._envs.step(
      self._actions
    )
    ended = terminated | truncated
    infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
    for row in np.flatnonzero(ended):
      final = appended(
        *(self._seen[row : row + 1], info['final_obs'][row][None]),
        np.zeros(1, bool),
      )
      infos[row] = {
        'terminal_observation': self._flat(final)[0],
        'TimeLimit.truncated': bool(truncated[row] and not terminated[row]),
      }
    self._seen = appended(self._seen, tokens, ended)
    return self._flat(self._seen), rewards.astype(np.float32), ended, infos

  def close(self) -> None:
    self._envs.close()

  def _asked(self) -> DreamVectorEnv:
    return self._envs

  def _flat(self, seen: np.ndarray) -> np.ndarray:
    return seen.reshape(len(seen), -1).astype(np.int32)


class TokenReader(BaseFeaturesExtractor):
  """A vector for every token that is seen, side by side."""

  def __init__(self, observation_space: gymnasium.spaces.Box, vocabulary: int):
    super().__init__(observation_space, observation_space.shape[0] * _WIDTH)
    self.vectors = torch.nn.Embedding(vocabulary, _WIDTH)

  def forward(self, observations: torch.Tensor) -> torch.Tensor:
    return self.vectors(observations.long()).flatten(1)


class _Log(BaseCallback):
  """Notes how dreamed returns go on."""

  def __init__(self, steps: int):
    super().__init__()
    self.curve: list[dict[str, float]] = []
    self._steps, self._start = steps, time.monotonic()

  def _on_step(self) -> bool:
    return True

  def _on_rollout_end(self) -> None:
    if self.num_timesteps * _LOGGED < self._steps * (len(self.curve) + 1):
      return
    returns = [episode['r'] for episode in self.model.ep_info_buffer]
    self.curve.append(
      {
        'steps': self.num_timesteps,
        'seconds': round(time.monotonic() - self._start, 1),
        'dreamed_return': float(np.mean(returns)) if returns else 0.0,
      }
    )
    logging.info(
      '%(steps)d steps in %(seconds).0f s, %(dreamed_return).2f an episode',
      self.curve[-1],
    )


def train(
  agent: Agent, game: str, contexts: Contexts, config: PupilConfig
) -> tuple[PPO, list[dict[str, float]]]:
  """A model that has learned in the dream, and how it went.

  Args:
    agent: that dreams.
    game: that it dreams.
    contexts: that dreams begin with.
    config: how it learns.
  """
  envs = DreamVecEnv(
    DreamVectorEnv(
      *(agent, game, contexts, config.environments),
      horizon=config.horizon,
      observations='tokens',
      temperature=config.temperature,
      autoreset_mode=AutoresetMode.SAME_STEP,
    ),
    config.frames,
  )
  model = PPO(
    'MlpPolicy',
    VecMonitor(envs),
    n_steps=_ROLLOUT,
    batch_size=min(_BATCH, _ROLLOUT * config.environments),
    n_epochs=8,
    learning_rate=1e-3,
    ent_coef=0.003,
    target_kl=0.03,
    policy_kwargs={
      'features_extractor_class': TokenReader,
      'features_extractor_kwargs': {'vocabulary': agent.tokenizer.vocab_size},
    },
    seed=config.seed,
    # JAX has what accelerator there is.
    device='cpu',
  )
  log = _Log(config.steps)
  model.learn(config.steps, callback=log)
  return model, log.curve


def load(path: pathlib.Path) -> Pupil:
  """What a model has learned that `train` gave and that was saved."""
  model = PPO.load(path, device='cpu')

  def logits(seen: np.ndarray) -> np.ndarray:
    with torch.no_grad():
      chosen = model.policy.get_distribution(torch.from_numpy(seen))
      return chosen.distribution.logits.numpy()

  weights = [value.numpy() for value in model.policy.state_dict().values()]
  return Pupil(
    logits=logits,
    steps=model.num_timesteps,
    parameters=sum(value.size for value in weights),
    weights=weights_digest(weights),
  )
