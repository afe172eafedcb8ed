"""Episodes in memory: what every reader gives and every data set is made of."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from jowa_jax.data.play_stats import PlayStats
from jowa_jax.types import FRAME_SHAPE

# Atari's flat areas compress best without a filter: 30 % fewer bytes.
_PNG_OPTIONS = (
  *(cv2.IMWRITE_PNG_COMPRESSION, 6),
  *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
)


class DataError(ValueError):
  """A data set is missing, damaged, or not what it should be."""


class RawEpisode(NamedTuple):
  """An episode as it was played or logged, of T transitions.

  What every source of data gives and every writer takes.
  """

  # T PNG files, each [84, 84] uint8; T + 1 if the frame after the last action
  # is known.
  frames: list[bytes]
  actions: np.ndarray  # [T] int32, indices into the game's minimal action set
  rewards: np.ndarray  # [T] float32, as the source has them, clipped or not
  terminated: bool  # the game was over at the end, not cut off


def encode_png(frame: np.ndarray) -> bytes:
  """A frame, [84, 84] uint8, as a PNG file."""
  written, data = cv2.imencode('.png', frame, _PNG_OPTIONS)
  if not written:
    raise RuntimeError(f'A frame of shape {frame.shape} was not encoded')
  return data.tobytes()


def digest(raw: RawEpisode) -> bytes:
  """16 bytes that identify the transitions of an episode.

  They cover the frames' PNG bytes, the actions, the clipped rewards and
  whether it terminated.
  """
  length = len(raw.actions)
  state = hashlib.blake2b(digest_size=16)
  for frame in raw.frames[:length]:
    state.update(frame)
  state.update(raw.actions.astype('<i4').tobytes())
  state.update(np.clip(raw.rewards, -1, 1).astype('<f4').tobytes())
  state.update(bytes([raw.terminated]))
  return state.digest()


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
  """One episode, or the part of it that was logged, of T transitions."""

  game: str
  task: int  # index of the game in `games.GAMES`
  run: int
  checkpoint: int
  episode_id: int  # unique within what was loaded together
  frames: Sequence[bytes]  # T PNG files, each [84, 84] uint8; may be on disk
  actions: np.ndarray  # [T] uint8, in the shared 18-action vocabulary
  rewards: np.ndarray  # [T] int8, clipped to -1, 0 and 1
  score: float  # sum of the rewards before clipping
  terminated: bool  # the game was over at the end, not cut off
  digest: bytes  # see `digest`
  tokens: np.ndarray | None = None  # [T, K] uint16, the frames pre-encoded
  # Columns that are not known, and zeros: 'actions', 'rewards'.
  missing: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.actions)

  def return_to_go(self, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Undiscounted sum of the clipped rewards from step t on to the end.

    Returns:
      [stop - start] float32, for t from start to stop - 1.
    """
    rewards = self.rewards[start:stop][::-1].astype(np.int64)
    after = 0 if stop is None else self.rewards[stop:].sum(dtype=np.int64)
    return (rewards.cumsum() + after)[::-1].astype(np.float32)

  def decode(self, start: int, stop: int, out: np.ndarray) -> None:
    """Writes the frames start..stop to `out`, [stop - start, 84, 84] uint8.

    Raises:
      DataError: a frame is not a grey 84 x 84 PNG file.
    """
    for row, png in enumerate(self.frames[start:stop]):
      # OpenCV fails on an empty buffer, but returns None for other damage.
      data = np.frombuffer(png or b'\0', np.uint8)
      frame = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
      if frame is None or frame.shape != FRAME_SHAPE:
        found = 'damaged' if frame is None else f'of shape {frame.shape}'
        raise DataError(
          f'Frame {start + row} of episode {self.episode_id} ({self.game}, '
          f'run {self.run}, checkpoint {self.checkpoint}) is {found}: get '
          'the data set again'
        )
      out[row] = frame


def by_game(episodes: Iterable[Episode]) -> dict[str, list[Episode]]:
  """Groups episodes by game, the games in alphabetical order."""
  groups: dict[str, list[Episode]] = {}
  for episode in sorted(episodes, key=lambda episode: episode.task):
    groups.setdefault(episode.game, []).append(episode)
  return groups


def missing_columns(episodes: Iterable[Episode]) -> dict[str, tuple[str, ...]]:
  """The columns that are not known of games, by game; none of most."""
  return {
    episode.game: episode.missing for episode in episodes if episode.missing
  }


def by_checkpoint(episodes: Iterable[Episode]) -> dict[str, PlayStats]:
  """How the play of every checkpoint of a game went, in the order given.

  Args:
    episodes: of one game.

  Returns:
    By 'run_<number>/checkpoint_<number>'.
  """
  groups: dict[str, list[Episode]] = {}
  for episode in episodes:
    name = f'run_{episode.run}/checkpoint_{episode.checkpoint:02d}'
    groups.setdefault(name, []).append(episode)
  return {
    name: PlayStats.of(
      [len(episode) for episode in group],
      [episode.score for episode in group],
      [episode.terminated for episode in group],
    )
    for name, group in groups.items()
  }


def split_episodes(
  episodes: Sequence[Episode], held_out_fraction: float, seed: int
) -> tuple[list[Episode], list[Episode]]:
  """Splits whole episodes into training and held-out ones.

  Every game gives its share of episodes, at least one, spread over its runs
  and checkpoints in proportion. The same arguments give the same split.

  Args:
    episodes: what was loaded.
    held_out_fraction: share of a game's episodes held out; 0 holds out none.
    seed: chooses the episodes.

  Returns:
    (training, held-out) episodes, in their order.

  Raises:
    ValueError: the fraction is not in [0, 1), or a game has one episode only.
  """
  if not 0 <= held_out_fraction < 1:
    raise ValueError(f'held_out_fraction is {held_out_fraction}, not in [0, 1)')
  if not held_out_fraction:
    return list(episodes), []
  held_out: set[int] = set()
  for game, group in by_game(episodes).items():
    if len(group) < 2:
      raise ValueError(
        f'{game} has one episode, too few to hold one out: load more, or set '
        'held_out_fraction to 0'
      )
    count = round(held_out_fraction * len(group))
    count = min(max(count, 1), len(group) - 1)
    held_out.update(_choose(group, count, seed))
  return (
    [episode for episode in episodes if id(episode) not in held_out],
    [episode for episode in episodes if id(episode) in held_out],
  )


def _choose(group: Sequence[Episode], count: int, seed: int) -> list[int]:
  """The ids of `count` of a game's episodes, spread over strata."""
  rng = np.random.default_rng((seed, group[0].task))
  strata: dict[tuple[int, int], list[Episode]] = {}
  for episode in group:
    strata.setdefault((episode.run, episode.checkpoint), []).append(episode)
  # Evenly spaced places in a line of shuffled strata, from a random first one,
  # give every stratum its share to within one.
  line = [
    id(stratum[place])
    for stratum in strata.values()
    for place in rng.permutation(len(stratum))
  ]
  first = rng.uniform()
  places = (np.arange(count) + first) * len(line) / count
  return [line[place] for place in places.astype(int)]
