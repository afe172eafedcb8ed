"""What a training run reads: batches by step, held-out batches, statistics."""

import copy
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.data.episodes import Episode
from jowa_jax.data.feed import pipeline, statistics, tokens
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.feed.sampler import MarkedShareSampler, Sampler
from jowa_jax.data.prepare import manifest, selection
from jowa_jax.data.source import DQN_REPLAY_CHECKPOINTS
from jowa_jax.data.store import stored
from jowa_jax.methods.base import BatchSpec
from jowa_jax.types import Segment


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which data, and how it is cut and drawn.

  Attributes:
    directory: of the data sets (see `stored.load_episodes`).
    games: games, or names of lists of them.
    stride: steps between neighbouring segments, better fewer than they have:
      where none overlap, a step is always seen at the same place of one.
    padding: the side on which short segments are padded, 'right' or 'left'.
    held_out_fraction: share of each game's episodes kept from training.
    balance_games: draw all games equally often, whatever their sizes.
    game_weights: how often each of the games is drawn, in their order and in
      any unit; by their segments if None.
    reward_share: of every batch that is drawn from segments with a reward that
      is not 0, in [0.001, 1], each game as often as otherwise; the rest is
      drawn from all segments. 0 draws from all alone, as in the paper.
    prefetch: batches made ahead; as many as there are cores, and two, if None.
    runs: which runs of every game; all if None.
    checkpoints: which checkpoints of every run; all if None.
    quality: 'expert', 'suboptimal' or 'highly_suboptimal': the last fifth of
      the checkpoints, all, or the first fifth; all if None.
    transitions: how many of each game, drawn in whole episodes; all if None.
    token_cache: directory of frames pre-encoded by the tokenizer, once it is
      frozen (see launch.encode_tokens); what it lacks is encoded first. Empty
      encodes the frames of each batch anew.
  """

  directory: str
  games: tuple[str, ...]
  stride: int = 4
  padding: str = 'right'
  held_out_fraction: float = 0.0
  balance_games: bool = False
  game_weights: tuple[float, ...] | None = None
  reward_share: float = 0.0
  prefetch: int | None = None
  runs: tuple[int, ...] | None = None
  checkpoints: tuple[int, ...] | None = None
  quality: str | None = None
  transitions: int | None = None
  token_cache: str = ''

  def __post_init__(self):
    if self.quality:
      if self.quality not in selection.QUALITIES:
        raise ValueError(
          f'quality={self.quality!r} is not in {tuple(selection.QUALITIES)}'
        )
      if self.checkpoints is not None:
        raise ValueError(
          f'quality={self.quality!r} chooses the checkpoints: leave '
          f'checkpoints={self.checkpoints} out'
        )
    selection.check_amount(None, self.transitions or None)
    if self.reward_share and not 0.001 <= self.reward_share <= 1:
      raise ValueError(
        f'reward_share={self.reward_share} is a share of each batch: choose it '
        'from 0.001 to 1, or 0 for none'
      )

  def warn_if_apart(self, length: int) -> None:
    """Logs it where segments of so many steps do not overlap."""
    if self.stride >= length > 1:
      logging.warning(
        'data.stride=%d: segments of %d steps do not overlap, so each step is '
        'learned at one place of a segment alone, and play meets it at any; '
        'data.stride=1 draws segments from every step',
        *(self.stride, length),
      )


class TrainingData:
  """Segments for training and, if any are held out, for evaluation.

  A `feed.Feed` that nothing is added to.

  Attributes:
    episodes: all that were loaded.
    train: segments to train on.
    held_out: segments of other episodes, or None.
    statistics: those of `train` that the spec names, by name.
    identity: JSON-able description of `train`, to keep beside a run.
  """

  def __init__(
    self,
    config: DataConfig,
    spec: BatchSpec,
    batch_size: int,
    seed: int,
  ):
    """Loads the episodes.

    Args:
      config: which data.
      spec: what a method needs of it.
      batch_size: segments in a batch.
      seed: of the split and of the batches.

    Raises:
      DataError: the data is missing, damaged or of another kind.
      ValueError: the spec is invalid.
    """
    if not config.directory:
      raise episodes_lib.DataError(
        'No data set given: set data.directory to a directory of RLDS Atari '
        'data, such as one made by launch.collect'
      )
    episodes = stored.load_episodes(
      config.directory, config.games, config.runs, config.checkpoints
    )
    if config.quality or config.transitions:
      episodes = _draw(config, episodes, seed)
    train, held_out = episodes_lib.split_episodes(
      episodes, config.held_out_fraction, seed
    )
    self.episodes = episodes
    self.train = SegmentDataset(
      train, spec.length, config.stride, config.padding, **spec.reading
    )
    # Every held-out step has a loss in one segment.
    self.held_out = None
    if held_out:
      self.held_out = SegmentDataset(
        held_out, spec.length, spec.length, 'right', **spec.reading
      )
    self._config = config
    self._batch_size = batch_size
    self.statistics = statistics.compute(spec.statistics, train)
    self.identity = self.train.identity()
    self._sampler = _sampler(config, self.train, batch_size, seed)

  def encode(
    self,
    encode: Callable[[np.ndarray], np.ndarray],
    tokenizer: str,
    batch_size: int = 128,
    progress: bool = True,
    process: int = 0,
    num_processes: int = 1,
  ) -> None:
    """Encodes what the token cache lacks, see `tokens.encode_episodes`."""
    tokens.encode_episodes(
      self.episodes,
      encode,
      self._config.token_cache,
      tokenizer,
      batch_size,
      progress,
      process,
      num_processes,
    )

  def with_tokens(self, tokenizer: str) -> 'TrainingData':
    """The same segments with tokens of the cache instead of frames.

    Args:
      tokenizer: what identifies the tokenizer.

    Raises:
      DataError: see `tokens.read_tokens`.
    """
    episodes = tokens.read_tokens(
      self.episodes, self._config.token_cache, tokenizer
    )
    # From now on tokens are read.
    stored.close_frames(self.episodes)
    encoded = copy.copy(self)
    for name in ('train', 'held_out'):
      part = getattr(self, name)
      setattr(encoded, name, part.with_episodes(episodes) if part else None)
    return encoded

  def batches(
    self,
    start: int,
    stop: int,
    put: Callable[[Segment], Any],
    process: int = 0,
    num_processes: int = 1,
  ) -> Iterator[Any]:
    """Yields what `put` makes of the batches of steps start..stop-1.

    Each of `num_processes` reads its rows alone, see `Sampler.indices`.
    """
    for _, batch in pipeline.batches(
      self.train,
      self._sampler,
      start,
      stop - start,
      self._config.prefetch,
      put,
      process,
      num_processes,
    ):
      yield batch

  def next_interaction(self, step: int) -> int | None:
    """None: nothing is added to recorded play, see `feed.Feed`."""
    return None

  def interact(self, step: int, variables: Any) -> Mapping[str, float]:
    """Never asked for, see `next_interaction`."""
    raise NotImplementedError('Recorded play is not interacted with')

  def save(self, folder: pathlib.Path, step: int) -> None:
    """Nothing: batches follow from the step."""

  def restore(self, folder: pathlib.Path, step: int) -> None:
    """Nothing, see `save`."""

  def held_out_batches(self, count: int) -> list[Segment]:
    """Up to `count` batches, spread over the held-out segments."""
    if not self.held_out:
      return []
    total = self.held_out.num_segments
    size = min(self._batch_size, total)
    count = min(count, total // size)
    order = np.linspace(0, total - 1, count * size).astype(int)
    # Strided, so that every batch has segments of all games.
    return [self.held_out.batch(order[i::count]) for i in range(count)]


def _draw(
  config: DataConfig, episodes: list[Episode], seed: int
) -> list[Episode]:
  """`transitions` of the wanted quality.

  Raises:
    DataError: there are too few, or they were drawn by another quality.
  """
  prepared = manifest.read(config.directory)
  drawn: set[int] = set()
  for game, group in episodes_lib.by_game(episodes).items():
    request = manifest.request_of(prepared, game) if prepared else {}
    try:
      found = selection.draw_prepared(
        group,
        _wanted(config, request.get('checkpoints', 'all')),
        config.transitions,
        seed,
        DQN_REPLAY_CHECKPOINTS
        if request.get('source') == 'dqn_replay'
        else None,
      )
    except episodes_lib.DataError as error:
      raise episodes_lib.DataError(
        f'data.quality={config.quality}, data.transitions={config.transitions} '
        f'of {config.directory}: {error}'
      ) from error
    drawn.update(episode.episode_id for episode in found)
  return [episode for episode in episodes if episode.episode_id in drawn]


def _wanted(config: DataConfig, prepared: str) -> str:
  """Which of the checkpoints that were prepared are taken.

  Raises:
    DataError: they were drawn by another quality.
  """
  wanted = config.quality or 'all'
  if wanted == prepared:
    # The first fifth of a first fifth is not what is meant.
    return 'all'
  if config.quality and prepared != 'all':
    raise episodes_lib.DataError(
      f'{config.directory} was prepared with --checkpoints={prepared}: leave '
      'the quality out, or prepare it anew'
    )
  return wanted


def _sampler(
  config: DataConfig, train: SegmentDataset, batch_size: int, seed: int
) -> Sampler | MarkedShareSampler:
  sizes = list(train.games.values())
  weights = _weights(config, list(train.games))
  if not config.reward_share:
    return Sampler(sizes, batch_size, seed, weights)
  marks, start = train.rewarded(), 0
  for game, size in train.games.items():
    of_game = marks[start : start + size]
    if not of_game.any():
      logging.warning(
        'data.reward_share=%s: no segment of %s holds a reward, so all of them '
        'are drawn from',
        config.reward_share,
        game,
      )
      of_game[:] = True
    start += size
  return MarkedShareSampler(
    sizes, batch_size, seed, weights, marks, config.reward_share
  )


def _weights(config: DataConfig, games: list[str]) -> list[float] | None:
  """How often each game is drawn, None for by its segments.

  Raises:
    ValueError: the weights do not fit the games.
  """
  if config.game_weights is None:
    return [1.0] * len(games) if config.balance_games else None
  names = games_lib.parse_games(config.games)
  if config.balance_games or len(config.game_weights) != len(names):
    raise ValueError(
      f'data.game_weights={config.game_weights} needs one weight for each of '
      f'{names}, and data.balance_games unset'
    )
  weights = dict(zip(names, config.game_weights, strict=True))
  return [weights[game] for game in games]
