"""Rollouts on disk: one JSON object per line, appended as they end."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jowa_jax import files, ownership
from jowa_jax import games as games_lib
from jowa_jax.configuration import differences
from jowa_jax.data.episodes import Episode


@dataclasses.dataclass(frozen=True)
class Rollout:
  """One complete episode."""

  agent: str
  game: str
  rollout: int  # number of the rollout within its game
  seed: int  # the emulator's seed
  score: float  # sum of the game's own rewards
  # Sum of the rewards clipped to [-1, 1]; None where that was not recorded.
  clipped_score: float | None
  decisions: int
  frames: int  # emulator frames
  seconds: float  # wall time from the evaluation's start to this episode's end
  terminated: bool  # game over; false if it ran out of frames
  # What else its outcome depends on: protocol, weights, options, seed.
  setup: dict[str, Any] = dataclasses.field(default_factory=dict)


class RecordError(ValueError):
  """A file of rollouts is broken, or is of another evaluation."""


def write_rollouts(path: str | os.PathLike, rollouts: Iterable[Rollout]):
  """Writes one JSON object per line, replacing `path` when complete."""
  files.write_text(path, ''.join(map(_line, rollouts)))


def read_rollouts(path: str | os.PathLike) -> list[Rollout]:
  """Reads a file of rollouts.

  Raises:
    FileNotFoundError: there is no such file.
    RecordError: a line is not a rollout; file and line are named.
  """
  text = _decode(pathlib.Path(path).read_bytes(), path)
  return [_parse(line, path, n) for n, line in enumerate(text.splitlines(), 1)]


def is_complete(terminated: bool, decisions: int, limit: int = 0) -> bool:
  """Whether recorded play of so many decisions is a whole episode.

  Args:
    terminated: the game was over.
    decisions: of the episode.
    limit: after which the rules of an evaluation cut an episode off, so that
      one of as many is whole by these rules; 0 if they do not.
  """
  return terminated or decisions == limit


def best_checkpoints(
  episodes: Iterable[Episode], limit: int = 0
) -> list[Episode]:
  """What each game's best checkpoint played, of a data set.

  That is the checkpoint, of whichever run, whose complete episodes have the
  highest mean score; games without a complete episode have none. For the limit
  see `is_complete`.
  """
  groups: dict[str, dict[tuple[int, int], list[Episode]]] = {}
  for episode in episodes:
    if is_complete(episode.terminated, len(episode), limit):
      checkpoints = groups.setdefault(episode.game, {})
      place = (episode.run, episode.checkpoint)
      checkpoints.setdefault(place, []).append(episode)
  best = []
  for checkpoints in groups.values():
    best += max(
      checkpoints.values(),
      key=lambda group: sum(e.score for e in group) / len(group),
    )
  return best


def data_rollouts(
  episodes: Iterable[Episode], agent: str = 'data', limit: int = 0
) -> list[Rollout]:
  """The complete episodes of a data set as rollouts of an agent.

  For the limit see `is_complete`. One that is there several times, as in data
  that were drawn with replacement or played without noise, is one.
  """
  counts: dict[str, int] = {}
  rollouts, seen = [], set()
  for episode in episodes:
    complete = is_complete(episode.terminated, len(episode), limit)
    if not complete or (episode.game, episode.digest) in seen:
      continue
    seen.add((episode.game, episode.digest))
    number = counts.get(episode.game, 0)
    counts[episode.game] = number + 1
    rollouts.append(
      Rollout(
        agent=agent,
        game=episode.game,
        rollout=number,
        seed=episode.episode_id,
        score=episode.score,
        clipped_score=float(episode.rewards.sum(dtype=int)),
        decisions=len(episode),
        frames=4 * len(episode),
        seconds=0.0,
        terminated=bool(episode.terminated),
      )
    )
  return rollouts


# Of a setup: where a checkpoint lies and which run it is of, as its weights
# tell which it is, and how many rollouts there will be, which changes none.
_NO_MATTER = ('checkpoint', 'run', 'rollouts')
# How rollouts were put together: it changes them by rounding at most.
_BATCHING = ('environments', 'devices', 'shrinks')
# What does not depend on the game.
_SHARED = ('method', 'weights', 'protocol', 'seed')
# What is the same of all training seeds of one agent.
_OF_ALL_SEEDS = ('method', 'parameters', 'options', 'protocol', 'rom')
# A training run that was packed into a file: the same agent by other weights.
_PACKED = ('.safetensors', 'pretrained')
# What records were written without before it was asked about.
_LATER = ('rom', 'shrinks')


def merge(rollouts: Iterable[Rollout]) -> list[Rollout]:
  """Each rollout once, of whatever files they come from.

  Raises:
    RecordError: an agent's rollouts of a game were played by different rules,
      or by agents of different methods or sizes, which are no seeds of one, or
      by a training run and the file that it was packed into; or one of them was
      recorded with different outcomes.
  """
  merged: dict[tuple, Rollout] = {}
  setups: dict[tuple, Mapping[str, Any]] = {}
  seeds: dict[tuple, dict[str, Any]] = {}
  packed: dict[tuple, bool] = {}
  for rollout in rollouts:
    setup = _without(rollout.setup, _NO_MATTER + _BATCHING)
    place = (rollout.agent, rollout.game, setup.get('weights'))
    changed = _differences(setups.setdefault(place, setup), setup)
    # Older records lack some of it.
    shared = {key: setup[key] for key in _OF_ALL_SEEDS if key in setup}
    others = seeds.setdefault(place[:2], {})
    known = {key: others[key] for key in shared if key in others}
    changed = changed or differences(known, {key: shared[key] for key in known})
    others.update(shared)
    if changed:
      raise RecordError(
        f'Rollouts of {rollout.agent} in {rollout.game} are of different '
        'evaluations; give the agents different names (--output), or leave a '
        'file out:\n  ' + '\n  '.join(changed)
      )
    _check_seed(packed, rollout)
    other = merged.setdefault((*place, rollout.rollout), rollout)
    outcomes = {(r.seed, r.score, r.decisions) for r in (other, rollout)}
    if len(outcomes) > 1:
      raise RecordError(
        f'Rollout {rollout.rollout} of {rollout.agent} in {rollout.game} '
        f'stands twice, with the scores {other.score} and {rollout.score}: '
        'delete one of the files'
      )
  return list(merged.values())


def _check_seed(packed: dict[tuple, bool], rollout: Rollout) -> None:
  """Raises RecordError if a run and the file made of it would be two seeds."""
  setup = rollout.setup
  if setup.get('run') is None:
    return
  where = str(setup.get('checkpoint', ''))
  place = (rollout.agent, rollout.game, setup['run'])
  if packed.setdefault(place, where.endswith(_PACKED)) != where.endswith(
    _PACKED
  ):
    raise RecordError(
      f'Rollouts of {rollout.agent} in {rollout.game} are of a training run '
      f'and of a file that it was packed into ({where} is one of them), which '
      'are one seed: give the agents different names (--output), or leave a '
      'file out'
    )


def by_run(rollouts: Iterable[Rollout]) -> dict[str, list[Rollout]]:
  """Rollouts by the training run of who played, in their order.

  Records of before a run's name had a second half (`train.identity`) go to the
  one run that begins as they say, or stay by themselves if there are several.
  """
  rollouts = list(rollouts)
  names = {str(r.setup.get('run')) for r in rollouts}
  whole = {}
  for name in names:
    longer = [other for other in names if other.startswith(f'{name}-')]
    whole[name] = longer[0] if len(longer) == 1 else name
  runs: dict[str, list[Rollout]] = {}
  for rollout in rollouts:
    name = whole[str(rollout.setup.get('run'))]
    runs.setdefault(name, []).append(rollout)
  return runs


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """What differs between setups, of what both may have recorded."""
  unknown = [name for name in _LATER if not (name in old and name in new)]
  return differences(_without(old, unknown), _without(new, unknown))


def _without(setup: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
  return {k: v for k, v in setup.items() if k not in names}


@contextlib.contextmanager
def appended(
  path: str | os.PathLike, agent: str, setups: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[list[Rollout], Callable[[Rollout], None]]]:
  """Opens a file of rollouts to go on with it.

  Gives the rollouts that it holds, and what appends one, which is on disk when
  the call returns. A line that a kill cut short is dropped, with a warning.

  Args:
    path: the file; it and its folder are made if need be.
    agent: whose rollouts are written.
    setups: what the rollouts of each game depend on, at least of one.

  Raises:
    RecordError: a line is broken, or a rollout is of another agent, protocol,
      seed or checkpoint, or of one of the games with other options, or another
      process writes to the file. It is left as it was.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    try:
      lock = path.with_name(f'.{path.name}.owner')
      stack.enter_context(ownership.owned(lock))
    except ownership.InUseError as error:
      raise RecordError(
        f'Another evaluation is writing to {path}: give another --output '
        f'({error})'
      ) from error
    file = stack.enter_context(path.open('a+b'))
    file.seek(0)
    *lines, rest = _decode(file.read(), path).split('\n')
    found = [_parse(line, path, n) for n, line in enumerate(lines, 1)]
    for rollout in found:
      _check_setup(rollout, agent, setups, path)
    if rest:
      logging.warning(
        '%s: dropping the last line, which was cut short: %.60s', path, rest
      )
      file.truncate(sum(len(line.encode()) + 1 for line in lines))

    def append(rollout: Rollout) -> None:
      file.write(_line(rollout).encode())
      file.flush()
      os.fsync(file.fileno())

    yield found, append


def _decode(data: bytes, path: str | os.PathLike) -> str:
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    raise RecordError(f'{path} is no text file: {error}') from error


def _check_setup(
  rollout: Rollout,
  agent: str,
  setups: Mapping[str, Mapping[str, Any]],
  path: pathlib.Path,
):
  wanted = setups.get(rollout.game)
  found = _without(rollout.setup, _NO_MATTER)
  if wanted is None:
    # A game that is not played now: what all games share must be the same.
    wanted = next(iter(setups.values()))
    wanted, found = (
      {name: setup.get(name) for name in _SHARED} for setup in (wanted, found)
    )
  wanted = json.loads(json.dumps(_without(wanted, _NO_MATTER)))
  changed = _differences(
    {'agent': rollout.agent, **found}, {'agent': agent, **wanted}
  )
  if changed:
    raise RecordError(
      f'{path} holds rollouts of {rollout.game} of another evaluation; give '
      'another --output, or restore what differs (environments: --games, '
      '--rollouts, --slots and --max_environments; shrinks: --shrink; devices '
      'of a CPU, one for each of its cores, four at most: '
      'JAX_NUM_CPU_DEVICES):\n  ' + '\n  '.join(changed)
    )


def _line(rollout: Rollout) -> str:
  return json.dumps(dataclasses.asdict(rollout)) + '\n'


def _parse(line: str, path: str | os.PathLike, number: int) -> Rollout:
  try:
    return _check(json.loads(line))
  except (ValueError, TypeError) as error:
    raise RecordError(
      f'{path}, line {number} is not a rollout: {error}. '
      'Delete the line and evaluate again: what else is there is kept'
    ) from error


def _check(record: Any) -> Rollout:
  if not isinstance(record, dict):
    raise TypeError(f'expected a JSON object, found {record!r}')
  types = {field.name: field.type for field in dataclasses.fields(Rollout)}
  types |= {'setup': dict, 'clipped_score': float}
  if missing := types.keys() - record.keys() - {'setup'}:
    raise TypeError(f'lacks {sorted(missing)}')
  if unknown := record.keys() - types.keys():
    raise TypeError(f'has unknown fields {sorted(unknown)}')
  for name, value in record.items():
    if name == 'clipped_score' and value is None:
      continue
    kind = types[name]
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
      raise TypeError(f'{name} is {value!r}, not of type {kind.__name__}')
  games_lib.parse_variant(record['game'])
  return Rollout(**record)
