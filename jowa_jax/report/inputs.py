"""Reads what a run left in its work directory.

Every file may be absent, then it is listed as missing. A file that is there
but does not hold what it should is an error that names it.
"""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.eval.findings import Dreams, Reconstructions
from jowa_jax.eval.latents import LATENTS
from jowa_jax.eval.records import Rollout, merge, read_rollouts
from jowa_jax.report import latent_section

# Preferred order of methods and agents; others follow by name.
METHODS = ('jowa', 'mtbc')
AGENTS = ('random', 'data', 'mtbc', 'jowa', 'jowa_beam')
# What a quickstart says of its chapters and players, beside the rollouts.
SUMMARY = 'summary.json'


@dataclasses.dataclass(frozen=True)
class TrainingCurves:
  """The metrics of one training run, in the order of its steps."""

  stages: list[tuple[str, float, float]]  # name, first and last position
  series: dict[str, tuple[np.ndarray, np.ndarray]]  # positions, values, [N]


@dataclasses.dataclass(frozen=True)
class Inputs:
  """Everything that was found; by method, agent or game."""

  configs: dict[str, dict[str, Any]]
  curves: dict[str, TrainingCurves]
  rollouts: dict[str, list[Rollout]]
  reconstructions: dict[str, Reconstructions]
  dreams: dict[str, Dreams]
  quality: dict[str, dict[str, float]]
  open_loop: dict[str, dict[str, list[float | None]]]
  latents: dict[str, dict[str, Any]]  # see `eval.latents.judge`
  videos: dict[str, dict[str, bytes]]  # by game and agent
  timings: dict[str, float]
  versions: dict[str, str]
  summary: dict[str, Any]  # of a quickstart; else empty
  missing: list[str]  # paths relative to the work directory


def read_inputs(
  workdir: str | os.PathLike | None = None,
  results: Sequence[str | os.PathLike] = (),
  runs: Sequence[str | os.PathLike] = (),
  pictures: str | os.PathLike | None = None,
) -> Inputs:
  """Reads what is to be reported.

  Args:
    workdir: of a quickstart; its results are `eval/*.jsonl`, its runs the
      directories with metrics.
    results: files of rollouts, shards among them, or folders of `*.jsonl`.
    runs: directories of training runs, shown by their names.
    pictures: directory of what `launch.judge` wrote, and of `videos/`; that of
      a work directory is `eval`.

  Raises:
    FileNotFoundError: a directory or file does not exist.
    ValueError: a file is broken, or two runs have a name; it is named.
  """
  root = None if workdir is None else pathlib.Path(workdir).resolve()
  reader = _Reader(root)
  found, players = {}, AGENTS
  if root is not None:
    if not root.is_dir():
      raise FileNotFoundError(f'There is no work directory {root}')
    names = [
      path.name
      for path in root.iterdir()
      if RunDirectory(path).metrics.exists()
    ]
    wanted, players = reader.expected()
    found = {n: root / n for n in ordered((*wanted, *names), wanted)}
  for path in (pathlib.Path(run).resolve() for run in runs):
    if not RunDirectory(path).metrics.is_file():
      raise FileNotFoundError(f'{path} is no run: it has no metrics.jsonl')
    if found.setdefault(path.name, path) != path:
      raise ValueError(f'Two runs are named {path.name}: rename a directory')
  found_runs = {m: RunDirectory(path) for m, path in found.items()}
  configs = {m: reader.json(run.config) for m, run in found_runs.items()}
  curves = {m: reader.curves(run.metrics) for m, run in found_runs.items()}
  folder = pathlib.Path('eval')
  if pictures is not None:
    folder = pathlib.Path(pictures).resolve()
    if not folder.is_dir():
      raise FileNotFoundError(f'There is no directory {folder}')
  return Inputs(
    configs={m: config for m, config in configs.items() if config},
    curves={m: curve for m, curve in curves.items() if curve.series},
    rollouts=reader.rollouts([*map(pathlib.Path, results)], players),
    open_loop=reader.json(folder / 'open_loop.json'),
    latents=reader.latents(folder / LATENTS),
    videos=reader.videos(folder / 'videos'),
    reconstructions=reader.reconstructions(folder / 'reconstructions.npz'),
    dreams=reader.dreams(folder / 'dreams.npz'),
    quality=reader.tables(folder / 'model_quality.json'),
    timings=reader.numbers('timings.json'),
    versions=reader.json('versions.json'),
    summary=reader.summary(),
    missing=reader.missing,
  )


def ordered(names: Iterable[str], first: tuple[str, ...]) -> list[str]:
  """The distinct names, those in `first` first and in its order."""
  rank = {name: i for i, name in enumerate(first)}
  return sorted(set(names), key=lambda name: (rank.get(name, len(rank)), name))


class _Reader:
  """Reads files under one directory and notes those that are not there."""

  def __init__(self, root: pathlib.Path | None):
    self._root = root
    self.missing: list[str] = []

  def _find(self, name: str | pathlib.Path) -> pathlib.Path | None:
    """The path of a file of the work directory, or a whole path."""
    if self._root is None:
      path = pathlib.Path(name)
      return path if path.is_absolute() and path.is_file() else None
    path = self._root / name
    if path.is_file():
      return path
    self.missing.append(os.path.relpath(path, self._root))
    return None

  def _where(self, name: str | pathlib.Path) -> pathlib.Path:
    """A file's path, for messages."""
    return pathlib.Path(self._root or '', name)

  def json(self, name: str | pathlib.Path) -> dict[str, Any]:
    path = self._find(name)
    if path is None:
      return {}
    try:
      value = json.loads(path.read_text())
    except ValueError as error:
      raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(value, dict):
      raise ValueError(f'{path} should hold a JSON object, not {value!r:.40}')
    return value

  def numbers(self, name: str) -> dict[str, float]:
    values = self.json(name)
    for key, value in values.items():
      if not _is_number(value):
        raise ValueError(
          f'{self._where(name)}: {key!r} is {value!r}, not a number'
        )
    return values

  def latents(self, name: str | pathlib.Path) -> dict[str, dict[str, Any]]:
    """Of agents that watched: where there is none, nothing is missing."""
    if not self._where(name).is_file():
      return {}
    found = self.json(name)
    latent_section.check(str(self._where(name)), found)
    return found

  def tables(self, name: str) -> dict[str, dict[str, float]]:
    tables = self.json(name)
    for game, table in tables.items():
      if not isinstance(table, dict) or not all(
        _is_number(value) for value in table.values()
      ):
        raise ValueError(
          f'{self._where(name)}: {game!r} should map names to numbers'
        )
    return tables

  def curves(self, name: str | pathlib.Path) -> TrainingCurves:
    path = self._find(name)
    if path is None:
      return TrainingCurves(stages=[], series={})
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
      try:
        records.append(_parse_metrics(json.loads(line)))
      except ValueError as error:
        raise ValueError(
          f'{path}, line {number} is not a metrics record: {error}'
        ) from error
    return _join_stages(records)

  def expected(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The runs and the players of the work directory, in order."""
    there = (self._root / 'config.json').is_file()
    config = self.json('config.json') if there else {}
    try:
      runs, agents = config['runs']['order'], config['evaluate']['agents']
      return tuple(runs), ('data', *agents)
    except (KeyError, TypeError):
      return METHODS, AGENTS  # no quickstart's, or one of an earlier version

  def summary(self) -> dict[str, Any]:
    path = pathlib.Path('eval') / SUMMARY
    there = self._root is not None and (self._root / path).is_file()
    return self.json(path) if there else {}

  def rollouts(
    self, paths: list[pathlib.Path], players: Sequence[str]
  ) -> dict[str, list[Rollout]]:
    """Reads files and folders of results, and those of the work directory."""
    if self._root is not None:
      folder = self._root / 'eval'
      self.missing += [
        f'eval/{agent}.jsonl'
        for agent in players
        if not (folder / f'{agent}.jsonl').is_file()
      ]
      if folder.is_dir():
        paths = [folder, *paths]
    rollouts = []
    for path in paths:
      files = _visible(path, '*.jsonl') if path.is_dir() else [path]
      if not files:
        raise FileNotFoundError(f'There are no results (*.jsonl) in {path}')
      for file in files:
        rollouts += read_rollouts(file)
    agents: dict[str, list[Rollout]] = {}
    for rollout in merge(rollouts):
      agents.setdefault(rollout.agent, []).append(rollout)
    return {agent: agents[agent] for agent in ordered(agents, AGENTS)}

  def videos(self, folder: pathlib.Path) -> dict[str, dict[str, bytes]]:
    """Reads '<agent>-<Game>.mp4' files."""
    found: dict[str, dict[str, bytes]] = {}
    if self._root is not None:
      folder = self._root / folder
    elif not folder.is_absolute():
      return found
    paths = {p.stem: p for p in _visible(folder, '*-*.mp4')}
    for name in ordered(paths, ()):
      agent, _, game = name.rpartition('-')
      games_lib.parse_variant(game)
      found.setdefault(game, {})[agent] = paths[name].read_bytes()
    return {
      game: {agent: videos[agent] for agent in ordered(videos, AGENTS)}
      for game, videos in sorted(found.items())
    }

  def _arrays(self, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Reads '<Game>/<kind>' arrays of uint8: game -> kind -> array."""
    path = self._find(name)
    if path is None:
      return {}
    games: dict[str, dict[str, np.ndarray]] = {}
    try:
      with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(f'{path} is not a readable npz: {error}') from error
    for key, array in arrays.items():
      game, _, kind = key.rpartition('/')
      if array.dtype != np.uint8 or array.shape[-2:] != (84, 84):
        raise ValueError(
          f'{path}: {key} is {array.dtype} {array.shape}, '
          'not uint8 frames of 84x84'
        )
      games.setdefault(game, {})[kind] = array
    return games

  def _pairs(
    self, name: str, kinds: tuple[str, str], rank: int, beside: str = ''
  ):
    """Yields (game, arrays) after checking that `kinds` are there and agree.

    So must what may be `beside` them.
    """
    for game, arrays in self._arrays(name).items():
      shapes = [arrays[kind].shape for kind in kinds if kind in arrays]
      known = {arrays[k].shape for k in (*kinds, beside) if k in arrays}
      if len(shapes) != 2 or len(known) != 1 or len(shapes[0]) != rank:
        raise ValueError(
          f'{self._where(name)}: {game!r} needs {kinds[0]!r} and {kinds[1]!r} '
          f'of one shape with {rank} axes; found '
          f'{ {kind: array.shape for kind, array in arrays.items()} }'
        )
      yield game, arrays

  def reconstructions(self, name: str) -> dict[str, Reconstructions]:
    return {
      game: Reconstructions(
        frames=arrays['frames'],
        reconstructions=arrays['reconstructions'],
        median=arrays.get('median'),
      )
      for game, arrays in self._pairs(name, ('frames', 'reconstructions'), 3)
    }

  def dreams(self, name: str) -> dict[str, Dreams]:
    return {
      game: Dreams(
        real=arrays['real'],
        dreamed=arrays['dreamed'],
        reconstructed=arrays.get('reconstructed'),
      )
      for game, arrays in self._pairs(
        name, ('real', 'dreamed'), 4, beside='reconstructed'
      )
    }


def _visible(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
  """Leaves out hidden files: what a kill left half-written."""
  paths = sorted(folder.glob(pattern))
  return [path for path in paths if not path.name.startswith('.')]


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_metrics(record: Any) -> dict[str, Any]:
  if not isinstance(record, dict):
    raise ValueError(f'expected a JSON object, found {record!r:.40}')
  if not isinstance(record.get('step'), int):
    raise ValueError(f"'step' is {record.get('step')!r}, not an integer")
  if not isinstance(record.get('stage'), str):
    raise ValueError(f"'stage' is {record.get('stage')!r}, not a string")
  for name, value in record.items():
    if name != 'stage' and not _is_number(value):
      raise ValueError(f'{name!r} is {value!r}, not a number')
  return record


def _join_stages(records: list[dict[str, Any]]) -> TrainingCurves:
  """Lays the stages end to end.

  A run that was interrupted logs some steps twice: the later record counts.
  Steps may go on over the stages or start again in each.
  """
  stages: dict[str, dict[int, dict[str, Any]]] = {}
  for record in records:
    stages.setdefault(record['stage'], {}).setdefault(
      record['step'], {}
    ).update(record)
  spans = []
  points: dict[str, list[tuple[float, float]]] = {}
  end = 0
  for stage, steps in stages.items():
    offset = end if min(steps) < end else 0
    begin = end if spans else min(steps)
    end = offset + max(steps)
    spans.append((stage, begin, end))
    for step in sorted(steps):
      for name, value in steps[step].items():
        if name not in ('step', 'stage') and np.isfinite(value):
          points.setdefault(name, []).append((offset + step, value))
  series = {
    name: tuple(np.array(column, float) for column in zip(*pairs, strict=True))
    for name, pairs in points.items()
  }
  return TrainingCurves(stages=spans, series=series)
