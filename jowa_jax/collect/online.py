"""Playing while training goes on: the feed of online fine-tuning.

Environments decide between updates with the agent as it is then, and all that
they ever saw is learned from. Random numbers are of the decision's number, so
that what is played follows from the weights and from what was played before.

Of several processes, each plays its share of the environments and tells the
others what came of every decision, so that all of them hold the same replay;
the first writes it. One process may go on with what several saved.
"""

import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import pipeline
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.feed.replay import Replay, Row
from jowa_jax.data.feed.sampler import Sampler
from jowa_jax.envs.ale import AleEnv
from jowa_jax.envs.vector import rollout_seed
from jowa_jax.methods.base import Method, check_actions
from jowa_jax.train.sharding import put_beside
from jowa_jax.types import FRAME_SHAPE, Segment, TimeStep


@dataclasses.dataclass(frozen=True)
class OnlineConfig:
  """How much is played, and how.

  Attributes:
    environments: that play together.
    every: updates between two interactions.
    decisions: of each environment in an interaction.
    random_decisions: of each environment before the first update.
    epsilon_start: share of random actions after these.
    epsilon_end: share of random actions in the end.
    epsilon_decisions: of each environment, over which the one becomes the
      other, linearly.
    sticky_actions: chance that the emulator repeats an action.
    max_frames: of an episode, in frames of the emulator.
  """

  environments: int = 1
  every: int = 1
  decisions: int = 4
  random_decisions: int = 20_000
  epsilon_start: float = 1.0
  epsilon_end: float = 0.01
  epsilon_decisions: int = 62_500
  sticky_actions: float = 0.0
  max_frames: int = 108_000

  def __post_init__(self):
    for name in (
      *('environments', 'every', 'decisions', 'random_decisions'),
      *('epsilon_decisions', 'max_frames'),
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    for name in ('epsilon_start', 'epsilon_end', 'sticky_actions'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'{name}={getattr(self, name)} is not in [0, 1]')

  def epsilon(self, row: int) -> float:
    """Share of random actions in a decision, counted from 0."""
    if row < self.random_decisions:
      return 1.0
    share = min((row - self.random_decisions) / self.epsilon_decisions, 1.0)
    return self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)


class OnlineFeed:
  """Batches of what the agent plays, see `data.feed.feed.Feed`.

  Attributes:
    identity: what is played, and how.
    statistics: none; methods that need some have no data to take them from.
    replay: all that was played.
  """

  def __init__(
    self,
    config: OnlineConfig,
    game: str,
    method: Method,
    batch_size: int,
    seed: int,
  ):
    """Loads the game.

    Args:
      config: how much is played.
      game: a game or a variant of one, see `games.parse_variant`.
      method: what plays.
      batch_size: segments in a batch.
      seed: of exploration, sticky actions and batches.

    Raises:
      ValueError: there is no such variant, the method needs statistics, or the
        environments do not divide over the processes.
    """
    if method.spec.statistics:
      raise ValueError(
        f'Online training has no data to compute {method.spec.statistics} from '
        'as it begins: choose a method that needs none'
      )
    count, shares = config.environments, jax.process_count()
    if count % shares:
      raise ValueError(
        f'online.environments={count} does not divide over {shares} processes: '
        f'make it a multiple of {shares}'
      )
    self._config, self._spec = config, method.spec
    self._batch_size, self._seed = batch_size, seed
    self._policy = method.policy(epsilon=0.0)
    self._game, task = game, games_lib.task_id(games_lib.parse_variant(game)[0])
    self._tasks = np.full(count, task, np.int32)
    self._legal = np.flatnonzero(games_lib.legal_mask()[task])
    first = jax.process_index() * (count // shares)
    self._envs = {
      env: AleEnv(
        *(game, rollout_seed(seed, game, env), config.sticky_actions),
        config.max_frames,
      )
      for env in range(first, first + count // shares)
    }
    self.replay = Replay(games_lib.GAMES[task], count)
    self._frames = _gathered(
      np.stack([env.reset() for env in self._envs.values()])
    )
    self._first = np.ones(count, bool)
    self._rewards = np.zeros(count, np.float32)
    self._scores = np.zeros(count)
    self._state = jax.device_get(self._policy.init(self._tasks))
    self.statistics: Mapping[str, np.ndarray] = {}
    self.identity = {
      'online': dataclasses.asdict(config),
      'game': game,
      'seed': seed,
    }

  def next_interaction(self, step: int) -> int:
    return -(-step // self._config.every) * self._config.every

  def interact(self, step: int, variables: Any) -> Mapping[str, float]:
    del step
    config, scores = self._config, []
    while len(self.replay) < config.random_decisions:
      last = len(self.replay) + 1 == config.random_decisions
      # The agent saw none of these episodes: it begins its own.
      scores += self._step(self._random(), cut=last)
    self._state = put_beside(variables, self._state)
    for _ in range(config.decisions):
      scores += self._step(self._decide(variables))
    values = {
      'online/decisions': float(len(self.replay) * config.environments),
      'online/epsilon': config.epsilon(len(self.replay)),
    }
    if scores:
      values |= {f'online/{self._game}': float(np.mean(scores))}
    return values

  def _random(self) -> np.ndarray:
    rng = np.random.default_rng((self._seed, len(self.replay)))
    return rng.choice(self._legal, self._config.environments)

  def _decide(self, variables: Any) -> np.ndarray:
    """The agent's actions, some of them replaced by random ones."""
    row = len(self.replay)
    keys = jax.random.split(
      jax.random.fold_in(jax.random.key(self._seed), row),
      self._config.environments,
    )
    step = TimeStep(
      frames=self._frames, first=self._first, rewards=self._rewards
    )
    actions, self._state, _ = self._policy.act(
      variables, self._state, *put_beside(variables, (step, keys))
    )
    actions = check_actions(actions, self._tasks)
    rng = np.random.default_rng((self._seed, row, 1))
    explores = rng.random(len(actions)) < self._config.epsilon(row)
    actions = np.where(explores, self._random(), actions).astype(np.int32)
    # What it remembers is what was done.
    known = self._state.actions.at[:, -1].set(actions)
    self._state = self._state.replace(actions=known)
    return actions

  def _step(self, actions: np.ndarray, cut: bool = False) -> list[float]:
    """Plays a decision; returns the scores of the episodes that it ended."""
    own = np.zeros(len(self._envs), _OUTCOME)
    for place, (number, env) in enumerate(self._envs.items()):
      each = env.step(int(actions[number]))
      truncated = (each.truncated or cut) and not each.terminated
      ended = each.terminated or truncated
      frame = env.reset() if ended else each.frame
      own[place] = (frame, each.reward, each.terminated, truncated)
    outcomes = _gathered(own)
    rewards = outcomes['reward']
    terminated, truncated = outcomes['terminated'], outcomes['truncated']
    self.replay.append(
      Row(self._frames, actions, rewards, terminated, truncated)
    )
    self._frames, self._first = outcomes['frame'], terminated | truncated
    self._rewards = np.where(self._first, 0, rewards)
    self._scores += rewards
    scores = [] if cut else self._scores[self._first].tolist()
    self._scores[self._first] = 0
    return scores

  def batches(
    self,
    start: int,
    stop: int,
    put: Callable[[Segment], Any],
    process: int = 0,
    num_processes: int = 1,
  ) -> Iterator[Any]:
    dataset = SegmentDataset(
      self.replay.episodes(),
      self._spec.length,
      stride=1,
      **self._spec.reading,
    )
    sampler = Sampler([dataset.num_segments], self._batch_size, self._seed)
    for _, batch in pipeline.batches(
      *(dataset, sampler, start, stop - start),
      put=put,
      process=process,
      num_processes=num_processes,
    ):
      yield batch

  def held_out_batches(self, count: int) -> list[Segment]:
    """None: all that is played is learned from."""
    return []

  def save(self, folder: pathlib.Path, step: int) -> None:
    """See `data.feed.feed.Feed`.

    Raises:
      OSError: it cannot be written; what was saved before is as it was.
    """
    try:
      self._save(folder, step)
    except OSError as error:
      raise OSError(
        f'{folder}: what was played until step {step} cannot be saved '
        f'({error}). Make room on the disk, then run the same command again: '
        'it goes on from the last checkpoint'
      ) from error

  def _save(self, folder: pathlib.Path, step: int) -> None:
    writes = jax.process_index() == 0
    if writes:
      folder.mkdir(parents=True, exist_ok=True)
      self.replay.write(folder)
    _wait_for_all('the replay is written')
    self.replay.forget_written(folder)
    arrays = {
      'bounds': np.array(self.replay.bounds),
      'frames': self._frames,
      'first': self._first,
      'rewards': self._rewards,
      'scores': self._scores,
    }
    for number, leaf in enumerate(jax.tree.leaves(self._state)):
      arrays[f'state/{number}'] = np.asarray(leaf)
    own = {
      f'env_{number}/{name}': value
      for number, env in self._envs.items()
      for name, value in env.snapshot().items()
    }
    for packed in _gathered_bytes(_packed(own)):
      arrays |= _unpacked(packed)
    if writes:
      with files.written_whole(_state_path(folder, step)) as temporary:
        temporary.write_bytes(_packed(arrays))
    _wait_for_all('what was played is saved')

  def restore(self, folder: pathlib.Path, step: int) -> None:
    path = _state_path(folder, step)
    for left in files.matching(folder, '.step_*'):
      left.unlink(missing_ok=True)
    try:
      arrays = _unpacked(path.read_bytes())
    except (OSError, ValueError, EOFError) as error:
      raise DataError(f'{path} cannot be read: {error}') from error
    self.replay.restore(folder, arrays['bounds'].tolist())
    self._frames, self._first = arrays['frames'], arrays['first']
    self._rewards, self._scores = arrays['rewards'], arrays['scores']
    for number, env in self._envs.items():
      begin = f'env_{number}/'
      env.restore(
        {
          name.removeprefix(begin): value
          for name, value in arrays.items()
          if name.startswith(begin)
        }
      )
    structure = jax.tree.structure(self._state)
    self._state = jax.tree.unflatten(
      structure, [arrays[f'state/{i}'] for i in range(structure.num_leaves)]
    )


def _state_path(folder: pathlib.Path, step: int) -> pathlib.Path:
  return folder / f'step_{step:09d}.npz'


# What comes of a decision, of one environment.
_OUTCOME = np.dtype(
  [
    ('frame', np.uint8, FRAME_SHAPE),  # that is decided on next
    ('reward', np.float32),
    ('terminated', bool),
    ('truncated', bool),
  ]
)


def _gathered(own: np.ndarray) -> np.ndarray:
  """Rows of all environments, [E, ...], of those of every process's own."""
  if jax.process_count() == 1:
    return own
  # As bytes, whatever they are: one exchange.
  rows = np.ascontiguousarray(own).view(np.uint8).reshape(len(own), -1)
  every = np.array(multihost_utils.process_allgather(rows, tiled=True))
  return every.view(own.dtype).reshape(-1, *own.shape[1:])


def _gathered_bytes(own: bytes) -> list[bytes]:
  """What every process has, in their order."""
  if jax.process_count() == 1:
    return [own]
  sizes = multihost_utils.process_allgather(np.array([len(own)]), tiled=True)
  padded = np.zeros((1, int(sizes.max())), np.uint8)
  padded[0, : len(own)] = np.frombuffer(own, np.uint8)
  every = np.asarray(multihost_utils.process_allgather(padded, tiled=True))
  return [row[:size].tobytes() for row, size in zip(every, sizes, strict=True)]


def _wait_for_all(what: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
  written = io.BytesIO()
  np.savez(written, **arrays)
  return written.getvalue()


def _unpacked(packed: bytes) -> dict[str, np.ndarray]:
  with np.load(io.BytesIO(packed)) as data:
    return dict(data)
