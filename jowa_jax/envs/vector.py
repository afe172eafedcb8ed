"""Several Atari games, several environments each, stepped together."""

import os
from collections.abc import Sequence

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

from jowa_jax import games as games_lib
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.variants import VariantVectorEnv
from jowa_jax.types import TimeStep


def rollout_seed(seed: int, game: str, rollout: int) -> int:
  """The emulator seed of one rollout, in [0, 2^31).

  A game's variants have the seeds of the game.
  """
  task = games_lib.task_id(games_lib.parse_variant(game).game)
  sequence = np.random.SeedSequence([seed, task, rollout])
  return int(sequence.generate_state(1)[0] & 0x7FFFFFFF)


class AtariEnvs:
  """E = games x `envs_per_game` environments, ordered game by game.

  Frames are 84x84 grey, one per decision, after ALE's frame skip, max over
  the last two emulator frames and area resize. Actions are indices into the
  shared 18-action vocabulary; rewards are the game's own, unclipped.

  An environment that ends shows its last frame. `restart` begins another
  rollout in it; left alone, its next step ignores the action and begins its
  rollout's episode again. Without sticky actions and no-ops ALE is
  deterministic: then seeds change nothing and only the policy varies.

  Attributes:
    games: the games or variants, each once.
    tasks: [E] int32, task ids; a variant's is its game's.
    rollouts: [E] int64, the rollout each environment is playing.
    episode_frames: [E] int32, emulator frames since the last reset.
  """

  def __init__(
    self,
    games: Sequence[str],
    envs_per_game: int,
    protocol: Protocol | None = None,
    num_threads: int = 0,
    rom_directory: str | os.PathLike = '',
  ):
    """Loads the games.

    Args:
      games: distinct names as in `games.GAMES`, or of variants, such as
        'Freeway@m1', see `games.parse_variant`.
      envs_per_game: environments of each game.
      protocol: the rules, the paper's by default.
      num_threads: emulator threads of each game, 0 for one per core.
      rom_directory: of other cartridges than ale-py's, see `ale.rom_path`.

    Raises:
      ValueError: a game is unknown or named twice, or none is given, a ROM is
        missing, or a variant or another ROM cannot be played by the protocol.
    """
    self.games = tuple(games)
    variants = [games_lib.parse_variant(game) for game in games]
    if not self.games or len(set(self.games)) < len(self.games):
      raise ValueError(f'Name each game once, at least one: got {self.games}')
    if envs_per_game < 1:
      raise ValueError(f'envs_per_game is {envs_per_game}: set it to >= 1')
    protocol = protocol or Protocol()
    self.envs_per_game = envs_per_game
    self.num_envs = len(self.games) * envs_per_game
    self.tasks = np.repeat(
      np.array([games_lib.task_id(some.game) for some in variants], np.int32),
      envs_per_game,
    )
    self._slices = [
      slice(i * envs_per_game, (i + 1) * envs_per_game)
      for i in range(len(self.games))
    ]
    self._envs = [
      _vector_env(
        variant, name, envs_per_game, protocol, num_threads, rom_directory
      )
      for variant, name in zip(variants, self.games, strict=True)
    ]
    self._frames = np.zeros((self.num_envs, 84, 84), np.uint8)
    self._ended: np.ndarray | None = None
    self._seed = 0
    self.rollouts = np.zeros(self.num_envs, np.int64)
    self.episode_frames = np.zeros(self.num_envs, np.int32)

  def game_of(self, env: int) -> str:
    """The game that environment `env` plays."""
    return self.games[env // self.envs_per_game]

  def seed_of(self, env: int) -> int:
    """The emulator seed of the rollout `env` is playing."""
    return rollout_seed(self._seed, self.game_of(env), int(self.rollouts[env]))

  def reset(self, seed: int, rollouts: np.ndarray | None = None) -> TimeStep:
    """Begins an episode in every environment.

    Args:
      seed: non-negative; with game and rollout it gives each one its seed.
      rollouts: [E] rollout numbers, by default 0, 1, ... within each game.

    Returns:
      The first frames; `first` is true everywhere.
    """
    if seed < 0:
      raise ValueError(f'seed is {seed}: set it to an integer >= 0')
    if rollouts is None:
      rollouts = np.tile(np.arange(self.envs_per_game), len(self.games))
    self._seed = seed
    self.rollouts = np.array(rollouts, np.int64).reshape(self.num_envs)
    self._ended = np.zeros(self.num_envs, bool)
    for env, where in zip(self._envs, self._slices, strict=True):
      seeds = [self.seed_of(e) for e in range(where.start, where.stop)]
      frames, info = env.reset(seed=np.array(seeds))
      self._frames[where] = frames[:, 0]
      self.episode_frames[where] = info['episode_frame_number']
    return self._time_step(
      np.ones(self.num_envs, bool), np.zeros(self.num_envs, np.float32)
    )

  def restart(self, mask: np.ndarray, rollouts: np.ndarray) -> TimeStep:
    """Begins the given rollouts in the masked environments.

    Args:
      mask: [E] bool, the environments to restart.
      rollouts: [E] integers, read where the mask is true.

    Returns:
      The current frames; `first` is the mask.
    """
    self._check_ready()
    mask = np.asarray(mask, bool)
    self.rollouts = np.where(mask, rollouts, self.rollouts)
    for env, where in zip(self._envs, self._slices, strict=True):
      chosen = mask[where]
      if not chosen.any():
        continue
      seeds = [self.seed_of(where.start + e) for e in np.flatnonzero(chosen)]
      frames, info = env.reset(
        seed=np.array(seeds), options={'reset_mask': chosen}
      )
      self._frames[where][chosen] = frames[chosen, 0]
      self.episode_frames[where][chosen] = info['episode_frame_number'][chosen]
    self._ended = self._ended & ~mask
    return self._time_step(mask, np.zeros(self.num_envs, np.float32))

  def step(
    self, actions: np.ndarray, active: np.ndarray | None = None
  ) -> tuple[TimeStep, np.ndarray, np.ndarray, np.ndarray]:
    """Plays one decision in every environment.

    Args:
      actions: [E] integers in [0, 18).
      active: [E] bool; a game without any active environment stands still,
        which saves its emulation. All are active by default.

    Returns:
      The time step, rewards [E] float32 (unclipped), terminated [E] bool
      (game over) and truncated [E] bool (out of frames).

    Raises:
      ValueError: actions of another shape, type or range.
    """
    self._check_ready()
    actions = self._check_actions(actions)
    if active is None:
      active = np.ones(self.num_envs, bool)
    playing = [
      (env, where)
      for env, where in zip(self._envs, self._slices, strict=True)
      if active[where].any()
    ]
    rewards = np.zeros(self.num_envs, np.float32)
    first = np.zeros(self.num_envs, bool)
    terminated, truncated = first.copy(), first.copy()
    # All games compute while the first one is being waited for.
    for env, where in playing:
      env.send(actions[where])
    for env, where in playing:
      frames, rewards[where], terminated[where], truncated[where], info = (
        env.recv()
      )
      self._frames[where] = frames[:, 0]
      self.episode_frames[where] = info['episode_frame_number']
      first[where] = self._ended[where]
      self._ended[where] = terminated[where] | truncated[where]
    return self._time_step(first, rewards), rewards, terminated, truncated

  def _time_step(self, first: np.ndarray, rewards: np.ndarray) -> TimeStep:
    # Copies: the next step writes to these arrays.
    return TimeStep(
      frames=self._frames.copy(), first=first.copy(), rewards=rewards.copy()
    )

  def _check_ready(self):
    if self._ended is None:
      raise RuntimeError('AtariEnvs must be reset before anything else')

  def _check_actions(self, actions: np.ndarray) -> np.ndarray:
    actions = np.asarray(actions)
    if actions.shape != (self.num_envs,) or actions.dtype.kind not in 'iu':
      raise ValueError(
        f'Actions are {actions.dtype} {actions.shape}: '
        f'give integers of shape ({self.num_envs},)'
      )
    if actions.min() < 0 or actions.max() >= games_lib.NUM_ACTIONS:
      raise ValueError(
        f'Actions span {actions.min()}..{actions.max()}: '
        f'give indices in 0..{games_lib.NUM_ACTIONS - 1}'
      )
    return actions.astype(np.int32)


def _vector_env(
  variant: games_lib.Variant,
  name: str,
  num_envs: int,
  protocol: Protocol,
  num_threads: int,
  rom_directory: str | os.PathLike,
) -> AtariVectorEnv | VariantVectorEnv:
  """The environments of one game."""
  if rom_directory or variant != games_lib.Variant(variant.game):
    return VariantVectorEnv(
      name, num_envs, protocol, num_threads, rom_directory
    )
  return AtariVectorEnv(
    games_lib.rom_id(variant.game),
    num_envs,
    stack_num=1,
    noop_max=protocol.noop_max,
    use_fire_reset=protocol.use_fire_reset,
    full_action_space=True,
    reward_clipping=False,
    frameskip=protocol.frame_skip,
    repeat_action_probability=protocol.sticky_actions,
    max_num_frames_per_episode=protocol.max_frames,
    # The only mode that still counts an ended episode's frames.
    autoreset_mode=AutoresetMode.NEXT_STEP,
    num_threads=num_threads,
  )
