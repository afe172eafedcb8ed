"""What a prepared directory says of itself: requests, and what came of each.

Directories grow by requests for other games, or for other runs of a game, all
drawn from it alike. The manifest names what is whole; it is replaced at the end
of each, so that an interruption leaves the one of before.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from jowa_jax.data.episodes import DataError
from jowa_jax.data.prepare.request import Request, as_json, from_json, located
from jowa_jax.data.source import Split, open_source
from jowa_jax.data.store import formats
from jowa_jax.types import FRAME_SHAPE

Manifest = dict[str, Any]

# How the data lie on disk, which all of a directory share.
_FORMAT = {
  'version': formats.VERSION,
  'frame_shape': list(FRAME_SHAPE),
  'chunk': formats.CHUNK,
}
# What may differ between requests for runs of one game.
_OF_RUNS = ('games', 'runs', 'input', 'seed')


def read(output: str | os.PathLike) -> Manifest | None:
  """The manifest of a directory, None if it has none.

  Raises:
    DataError: it is damaged, or the data are of another format.
  """
  path = epath.Path(output) / formats.MANIFEST
  if not path.exists():
    return None
  try:
    manifest = json.loads(path.read_text())
    if 'requests' not in manifest:  # of before directories grew
      first = {name: manifest.pop(name) for name in ('request', 'versions')}
      manifest = {'format': _FORMAT, 'requests': [first], **manifest}
    theirs = {name: manifest['format'][name] for name in _FORMAT}
    for game in manifest['games'].values():
      for run in game['runs'].values():
        request = manifest['requests'][run.setdefault('request', 0)]
        tuple(request['request']['games'])
  except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
    raise DataError(
      f'{path} is damaged ({error!r}): remove {output} and prepare it again'
    ) from error
  for name, value in _FORMAT.items():
    if theirs[name] != value:
      raise DataError(
        f'{output} is of another format ({name}: {theirs[name]}, not '
        f'{value}): give another directory'
      )
  return manifest


def request_of(manifest: Manifest, game: str) -> dict[str, Any]:
  """What was asked for when a game was prepared; nothing of other games."""
  runs = manifest['games'].get(game, {'runs': {}})['runs'].values()
  return next((_request(manifest, run) for run in runs), {})


def _request(manifest: Manifest, run: Mapping[str, Any]) -> dict[str, Any]:
  return manifest['requests'][run['request']]['request']


def digests(manifest: Manifest | None) -> set[str]:
  """`Request.digest` of all requests that are done."""
  requests = manifest['requests'] if manifest else ()
  return {from_json(one['request']).digest() for one in requests}


def rest_of(manifest: Manifest | None, request: Request) -> Request | None:
  """What of a request is not done yet, None if all of it is.

  Raises:
    DataError: a game is there that was drawn in another way; the fields are
      named.
  """
  if manifest is None:
    return request
  missing = []
  for game in request.games:
    runs = manifest['games'].get(game, {'runs': {}})['runs']
    asked = {run['request']: _request(manifest, run) for run in runs.values()}
    for number, theirs in asked.items():
      of_request = {n: r for n, r in runs.items() if r['request'] == number}
      if _is_same(theirs, request, game, of_request):
        logging.info(
          '%s of %s was prepared before, by the same request',
          *(', '.join(of_request), game),
        )
        break
    else:
      for theirs in asked.values():
        _refuse_if(_changed(theirs, request, _OF_RUNS), game)
      missing.append(game)
  return dataclasses.replace(request, games=tuple(missing)) if missing else None


def check_runs(
  manifest: Manifest | None, request: Request, splits: Iterable[Split]
) -> None:
  """Raises DataError if a run is there already, of another request."""
  for split in splits if manifest else ():
    runs = manifest['games'].get(split.game, {'runs': {}})['runs']
    run = runs.get(f'run_{split.run}')
    if run is not None:
      theirs = _request(manifest, run)
      _refuse_if(
        _changed(theirs, request, ('games',)), split.run_name, always=True
      )


def joined(
  manifest: Manifest | None,
  request: Request,
  versions: Mapping[str, str],
  games: Mapping[str, Any],
) -> Manifest:
  """A manifest with what another request has made."""
  old = manifest or {'requests': [], 'games': {}}
  number, everything = len(old['requests']), dict(old['games'])
  for name, game in games.items():
    there = everything.get(name, {'steps_there': 0, 'runs': {}})
    runs = {run: {**of, 'request': number} for run, of in game['runs'].items()}
    everything[name] = _summed_up(
      there['steps_there'] + game['steps_there'], {**there['runs'], **runs}
    )
  asked = {'request': as_json(request), 'versions': dict(versions)}
  return {
    'format': _FORMAT,
    'requests': [*old['requests'], asked],
    'games': everything,
  }


def _summed_up(steps_there: int, runs: Mapping[str, Any]) -> dict[str, Any]:
  """A game of the manifest: counts and the mean return over its runs."""
  parts = [part for run in runs.values() for part in run['parts'].values()]
  counts = {
    name: sum(part[name] for part in parts)
    for name in ('steps', 'episodes', 'full_episodes')
  }
  full = counts['full_episodes']
  returns = sum(
    part['mean_return'] * part['full_episodes']
    for part in parts
    if part['full_episodes']
  )
  return {
    'steps_there': steps_there,
    'runs': dict(runs),
    **counts,
    'mean_return': returns / full if full else None,
  }


def _changed(
  theirs: Mapping[str, Any], request: Request, but: Sequence[str]
) -> list[str]:
  ours = as_json(request)
  return [
    f'{name}: {theirs.get(name)!r}, not {ours[name]!r}'
    for name in ours
    if name not in but and theirs.get(name) != ours[name]
  ]


def _refuse_if(changed: Sequence[str], what: str, always: bool = False) -> None:
  if changed or always:
    raise DataError(
      f'{what} was prepared by another request; name other games or runs, or '
      'give another directory:\n  ' + '\n  '.join(changed)
    )


def _is_same(
  theirs: Mapping[str, Any],
  request: Request,
  game: str,
  runs: Mapping[str, Any],
) -> bool:
  """Whether a request asks for what another one has made of a game."""
  if _changed(theirs, request, ('games', 'input')):
    return False
  same = located(theirs.get('input', '')) == request.input
  return same or _has_same_files(request, game, runs)


def _has_same_files(
  request: Request, game: str, runs: Mapping[str, Any]
) -> bool:
  """Whether a source has the files, by name and size, that were read."""
  try:
    source = open_source(
      *(request.source, request.input, request.video, request.games)
    )
    there = {
      (f'run_{split.run}', split.checkpoint_name): split
      for split in source.splits(game)
    }
    return all(
      _by_name(source.files(there[run, name])) == _by_name(part['files'])
      for run, of_run in runs.items()
      for name, part in of_run['parts'].items()
    )
  except (DataError, KeyError):
    return False


def _by_name(sizes: dict[str, int]) -> dict[str, int]:
  return {os.path.basename(path): size for path, size in sizes.items()}
