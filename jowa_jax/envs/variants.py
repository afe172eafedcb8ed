"""Environments of a game's variant, in threads, as ale-py's vector steps them.

`AtariVectorEnv` has no argument for a mode, a difficulty or a cartridge, so
each environment is an emulator of its own here. The interface is as much of
Gymnasium's as `envs.vector` uses, with the same order of events: an environment
that ended spends its next step on beginning again.
"""

import concurrent.futures
import os
from typing import Any

import numpy as np

from jowa_jax import processes
from jowa_jax.envs.ale import FRAME_SIZE, FRAME_SKIP, AleEnv
from jowa_jax.envs.protocol import Protocol


class VariantVectorEnv:
  """N environments of one variant of a game."""

  def __init__(
    self,
    variant: str,
    num_envs: int,
    protocol: Protocol,
    num_threads: int = 0,
    rom_directory: str | os.PathLike = '',
  ):
    """Loads the game.

    Args:
      variant: such as 'Freeway@m1', see `games.parse_variant`.
      num_envs: N.
      protocol: the rules.
      num_threads: 0 for one per core, at most one per environment.
      rom_directory: of other cartridges than ale-py's, see `ale.rom_path`.

    Raises:
      ValueError: there is no such variant, or the rules are of those that
        variants are not played by.
    """
    for name, value, only in (
      ('frame_skip', protocol.frame_skip, FRAME_SKIP),
      ('noop_max', protocol.noop_max, 0),
      ('use_fire_reset', protocol.use_fire_reset, False),
    ):
      if value != only:
        raise ValueError(
          f'Protocol.{name}={value}: a variant or another ROM ({variant}) is '
          f'played with {only} alone'
        )
    self._variant, self._protocol = variant, protocol
    self._rom_directory = rom_directory
    self._envs = [self._make(0) for _ in range(num_envs)]
    self._ended = np.zeros(num_envs, bool)
    self._frames = np.zeros((num_envs, 1, FRAME_SIZE, FRAME_SIZE), np.uint8)
    # The emulator computes without Python's lock.
    self._threads = concurrent.futures.ThreadPoolExecutor(
      min(num_threads or processes.num_cores(), num_envs)
    )
    self._sent: list[concurrent.futures.Future] = []

  def _make(self, seed: int) -> AleEnv:
    # The emulator reads its seed as it loads a game.
    rules = self._protocol
    return AleEnv(
      *(self._variant, seed, rules.sticky_actions, rules.max_frames),
      rom_directory=self._rom_directory,
    )

  def reset(
    self, *, seed: np.ndarray, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Begins episodes; returns all frames [N, 1, 84, 84] uint8, and counts.

    Args:
      seed: [M] of the environments that begin.
      options: 'reset_mask' [N] bool says which; all do without.
    """
    which = np.ones(len(self._envs), bool)
    if options:
      which = np.asarray(options['reset_mask'], bool)
    for env, emulator_seed in zip(np.flatnonzero(which), seed, strict=True):
      self._envs[env] = self._make(int(emulator_seed))
      self._frames[env, 0] = self._envs[env].reset()
    self._ended &= ~which
    return self._frames.copy(), self._info()

  def send(self, actions: np.ndarray) -> None:
    """Begins a decision in every environment; `recv` ends it."""
    self._sent = [
      self._threads.submit(self._step, env, int(action))
      for env, action in enumerate(actions)
    ]

  def recv(self) -> tuple:
    """The decision's outcome: what `gymnasium.vector.VectorEnv.step` returns.

    Frames [N, 1, 84, 84] uint8, rewards [N] float32 (unclipped), terminated
    and truncated [N] bool, and counts by name.
    """
    rewards, terminated, truncated = zip(
      *(future.result() for future in self._sent), strict=True
    )
    terminated, truncated = np.array(terminated), np.array(truncated)
    self._ended = terminated | truncated
    return (
      *(self._frames.copy(), np.array(rewards, np.float32)),
      *(terminated, truncated, self._info()),
    )

  def _step(self, env: int, action: int) -> tuple[int, bool, bool]:
    if self._ended[env]:
      self._frames[env, 0] = self._envs[env].reset()
      return 0, False, False
    outcome = self._envs[env].step(action)
    self._frames[env, 0] = outcome.frame
    return outcome.reward, outcome.terminated, outcome.truncated

  def _info(self) -> dict[str, np.ndarray]:
    counts = [env.episode_frames for env in self._envs]
    return {'episode_frame_number': np.array(counts, np.int32)}
