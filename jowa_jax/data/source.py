"""Where play comes from: kinds of data sets, and what they have in common."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

from jowa_jax.data.episodes import RawEpisode

# Of every run of DQN-Replay, by the numbers of its files.
DQN_REPLAY_CHECKPOINTS = 50
SOURCES = ('dqn_replay', 'rlu', 'ale', 'jowa_hdf5', 'minari', 'video')
# What a source does not know of play; its columns are zeros. All else knows
# everything.
MISSING = {'video': ('actions', 'rewards')}


@dataclasses.dataclass(frozen=True, order=True)
class Split:
  """The play of one checkpoint of one run of a game: what is read in one go."""

  game: str  # a name in `games.GAMES`
  run: int
  checkpoint: int  # by the source's own numbers

  @property
  def run_name(self) -> str:
    return f'{self.game}_run_{self.run}'

  @property
  def checkpoint_name(self) -> str:
    return f'checkpoint_{self.checkpoint:02d}'

  @property
  def name(self) -> str:
    return f'{self.run_name}-{self.checkpoint_name}'

  def __str__(self) -> str:
    return f'{self.run_name}/{self.checkpoint_name}'


@dataclasses.dataclass(frozen=True)
class VideoOptions:
  """How videos become decisions.

  Attributes:
    crop: of every picture what is kept, in its pixels: width, height, left and
      top; all of it if None.
    decisions_per_second: of the video; a game's own pace is 15, where 4 of its
      60 frames a second pass per decision.
    frames_per_second: of pictures that follow each other evenly; None for the
      times that a file has, and for images one in a decision.
  """

  crop: tuple[int, int, int, int] | None = None
  decisions_per_second: float = 15.0
  frames_per_second: float | None = None

  def __post_init__(self):
    for name in ('decisions_per_second', 'frames_per_second'):
      value = getattr(self, name)
      if value is not None and not value > 0:
        raise ValueError(f'{name}={value} is not above 0')
    if self.crop and not (min(self.crop) >= 0 and min(self.crop[:2]) > 0):
      raise ValueError(
        f'crop={":".join(map(str, self.crop))} (width:height:left:top) keeps '
        'nothing, or begins outside'
      )


def parse_crop(text: str) -> tuple[int, int, int, int]:
  """The crop that 'width:height:left:top' means.

  Raises:
    ValueError: the text is no such one.
  """
  numbers = text.split(':')
  if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
    raise ValueError(
      f'crop={text!r}: give the pixels that are kept as width:height:left:top, '
      'such as 336:336:16:48'
    )
  width, height, left, top = map(int, numbers)
  return width, height, left, top


class Source(Protocol):
  """A data set in some format; can be pickled and sent to other machines."""

  # How many checkpoints a whole run has, if that is known; else those there
  # are taken for all.
  whole_run: ClassVar[int | None]

  def splits(self, game: str) -> list[Split]:
    """What there is of a game, sorted.

    Raises:
      DataError: there is nothing, with the place looked at and the remedy.
    """

  def doubts(self, split: Split) -> str:
    """Why a split is left out unless it is named; empty if it is not."""

  def lengths(self, split: Split) -> list[int]:
    """The transitions of each episode, reading as little as it can.

    0 stands for an episode in which nothing happens; it is never chosen.

    Raises:
      DataError: a file is missing, damaged or of another format or shape; it
        names the file and the remedy.
    """

  def episodes(
    self, split: Split, chosen: Sequence[int]
  ) -> Iterator[RawEpisode]:
    """Yields the chosen episodes, one at a time in memory.

    Args:
      split: one that `splits` gave.
      chosen: places in what `lengths` returned, ascending.

    Raises:
      DataError: as `lengths`; or an action is not in the game's set.
    """

  def files(self, split: Split) -> dict[str, int]:
    """The files that a split is read from and their sizes in bytes."""


def open_source(
  name: str,
  root: str,
  video: VideoOptions | None = None,
  games: Sequence[str] = (),
) -> Source:
  """The source of a name in `SOURCES` at a directory.

  Args:
    name: of the source.
    root: the directory.
    video: how videos are read; defaults if None.
    games: those that are asked for.

  Raises:
    ValueError: there is no such source.
  """
  if name in ('rlu', 'ale'):
    from jowa_jax.data.sources.rlds_atari import RldsSource

    return RldsSource(root)
  if name == 'dqn_replay':
    from jowa_jax.data.sources.dqn_replay import DqnReplaySource

    return DqnReplaySource(root)
  if name == 'jowa_hdf5':
    from jowa_jax.data.sources.jowa_hdf5 import JowaHdf5Source

    return JowaHdf5Source(root)
  if name == 'minari':
    from jowa_jax.data.sources.minari_sets import MinariSource

    return MinariSource(root)
  if name == 'video':
    from jowa_jax.data.sources.video import VideoSource

    return VideoSource(root, video or VideoOptions(), len(games) < 2)
  raise ValueError(f'Unknown source {name!r}; there are {", ".join(SOURCES)}')
