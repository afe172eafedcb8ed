"""Diagnoses of several games on disk: continued, and shown as tables."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tqdm

from jowa_jax import files, ownership
from jowa_jax.agent import Agent
from jowa_jax.configuration import differences
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import rollout_seed
from jowa_jax.eval.diagnosis import (
  PLAYERS,
  DiagnosisConfig,
  Episode,
  make_searches,
  play,
  summarize,
)
from jowa_jax.eval.emulator import Emulator
from jowa_jax.eval.records import Rollout, write_rollouts
from jowa_jax.train.identity import run_digest, weights_digest

Row = dict[str, Any]


def diagnose(
  agent: Agent,
  games: Sequence[str],
  config: DiagnosisConfig,
  make_emulator: Callable[[str], Emulator],
  output: str | os.PathLike,
  *,
  players: Sequence[str] = PLAYERS,
  on_row: Callable[[Row], None] = lambda row: None,
  progress: bool = True,
) -> list[Row]:
  """Plays what is missing of a diagnosis.

  Args:
    agent: one with a tokenizer and a simulator.
    games: names in `games.GAMES`, or of variants.
    config: settings of the diagnosis.
    make_emulator: (game) -> an emulator without sticky actions.
    output: a JSON file of `setup` and `rows`, one of each game and player,
      whole after every row; what it holds is not played again.
    players: some of `PLAYERS`.
    on_row: called with every row that is played.
    progress: whether to draw a progress bar.

  Returns:
    The rows of the games and players, old and new.

  Raises:
    ValueError: the file is broken or of another diagnosis; a bad game, player
      or number.
    FloatingPointError: values are not finite.
    InUseError: another process goes on with the file.
  """
  output = pathlib.Path(output)
  with ownership.owned(output.with_name(f'.{output.name}.owner')):
    return _diagnose(
      *(agent, games, config, make_emulator, output),
      *(players, on_row, progress),
    )


def _diagnose(
  agent: Agent,
  games: Sequence[str],
  config: DiagnosisConfig,
  make_emulator: Callable[[str], Emulator],
  output: pathlib.Path,
  players: Sequence[str],
  on_row: Callable[[Row], None],
  progress: bool,
) -> list[Row]:
  if not players or set(players) - set(PLAYERS):
    raise ValueError(f'players={list(players)} must be some of {PLAYERS}')
  setup = {
    'step': agent.step,
    'run': run_digest(agent.config),
    'weights': weights_digest(agent.variables.params),
    **dataclasses.asdict(config),
  }
  rows = _read(output, setup)
  for game in games:
    waiting = [p for p in players if (game, p) not in rows]
    if not waiting:
      continue
    searches = make_searches(agent, game, config, make_emulator)
    for player in waiting:
      with tqdm.tqdm(
        desc=f'{game}, {player}', unit='decision', disable=not progress
      ) as bar:
        played = play(
          agent, game, player, config, make_emulator, searches, bar.update
        )
      row = {
        'game': game,
        'player': player,
        **summarize(played, searches.viewer.gamma),
        'episodes': [_record(episode) for episode in played.episodes],
      }
      rows[game, player] = row
      text = json.dumps({'setup': setup, 'rows': [*rows.values()]}, indent=2)
      files.write_text(output, text + '\n')
      on_row(row)
  return [rows[game, player] for game in games for player in players]


def _record(episode: Episode) -> dict[str, Any]:
  return {
    'score': float(episode.rewards.sum()),
    'clipped_score': float((episode.rewards > 0).sum())
    - float((episode.rewards < 0).sum()),
    'decisions': len(episode.rewards),
    'terminated': episode.terminated,
    'truncated': episode.truncated,
  }


def _read(
  path: str | os.PathLike, setup: Mapping[str, Any]
) -> dict[tuple[str, str], Row]:
  path = pathlib.Path(path)
  if not path.exists():
    return {}
  try:
    found = json.loads(path.read_text())
    rows = {(row['game'], row['player']): row for row in found['rows']}
    # The weights tell the run, which older files name by less; they tell
    # nothing of the score, as there was one.
    asked = {'path_score': 'leaf', **found['setup'], 'run': setup['run']}
    changed = differences(asked, setup)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is no diagnosis: {error!r}; give another --output'
    ) from error
  if changed:
    raise ValueError(
      f'{path} is of another diagnosis; give another --output, or restore what '
      'differs:\n  ' + '\n  '.join(changed)
    )
  return rows


def rollouts(
  rows: Sequence[Row], name: str, config: DiagnosisConfig, agent: Agent
) -> dict[str, list[Rollout]]:
  """Complete episodes as `launch.evaluate` records them, by agent.

  The emulator's beam is called `<name>_emulator`, and so on. Games with an
  episode that was left before its end are left out.

  Args:
    rows: what `diagnose` returned.
    name: what the agents' names begin with.
    config: settings of the diagnosis.
    agent: the one that played.
  """
  found: dict[str, list[Rollout]] = {}
  # `envs.ale.AleEnv` plays by the defaults, without sticky actions.
  rules = dataclasses.asdict(Protocol(epsilon=config.epsilon))
  del rules['rollouts']
  for row in rows:
    if not all(e['terminated'] or e['truncated'] for e in row['episodes']):
      continue
    setup = {
      'method': agent.config['method'],
      'checkpoint_step': agent.step,
      'run': run_digest(agent.config),
      'weights': weights_digest(agent.variables.params),
      'options': _options(row['player'], config),
      'protocol': rules,
      'seed': config.seed,
      'rollouts': len(row['episodes']),
    }
    found.setdefault(f'{name}_{row["player"]}', []).extend(
      Rollout(
        agent=f'{name}_{row["player"]}',
        game=row['game'],
        rollout=number,
        seed=rollout_seed(config.seed, row['game'], number),
        score=episode['score'],
        clipped_score=episode['clipped_score'],
        decisions=episode['decisions'],
        frames=rules['frame_skip'] * episode['decisions'],
        seconds=0.0,
        terminated=episode['terminated'],
        setup=setup,
      )
      for number, episode in enumerate(row['episodes'])
    )
  return found


def _options(player: str, config: DiagnosisConfig) -> dict[str, Any]:
  planner = {'greedy': 'none', 'model': 'beam', 'emulator': 'emulator'}[player]
  options = {'planner': planner, 'context_length': config.context_length}
  if player != 'greedy':
    options |= {
      'width': config.width,
      'horizon': config.horizon,
      'path_score': config.path_score,
    }
  if player == 'emulator':
    options['count_ends'] = config.count_ends
  return options


def write_records(
  rows: Sequence[Row],
  folder: str | os.PathLike,
  name: str,
  config: DiagnosisConfig,
  agent: Agent,
) -> list[pathlib.Path]:
  """Writes `rollouts` as one file an agent; returns the files."""
  paths = []
  for agent_name, found in rollouts(rows, name, config, agent).items():
    paths.append(pathlib.Path(folder) / f'{agent_name}.jsonl')
    write_rollouts(paths[-1], found)
  return paths


def table(rows: Sequence[Row]) -> str:
  """The rows of one game as text, players beside each other."""
  names = dict.fromkeys(
    name for row in rows for name, value in row.items() if _is_cell(value)
  )
  names = [name for name in names if name not in ('game', 'player')]
  lines = [[rows[0]['game'], *(row['player'] for row in rows)]]
  lines += [[name, *(_text(row.get(name)) for row in rows)] for name in names]
  width = max(len(line[0]) for line in lines)
  return '\n'.join(
    line[0].ljust(width) + ''.join(cell.rjust(11) for cell in line[1:])
    for line in lines
  )


def _is_cell(value: Any) -> bool:
  return value is None or isinstance(value, int | float)


def _text(value: Any) -> str:
  if value is None:
    return '-'
  return str(value) if isinstance(value, int) else f'{value:.3f}'
