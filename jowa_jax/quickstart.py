"""Everything in one go: real play, data set, training, evaluation, report.

Each phase leaves files behind and is skipped, or continued, when they are
there, so that a run that was interrupted goes on where it was.
"""

import contextlib
import dataclasses
import json
import pathlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.agent import Agent, load
from jowa_jax.collect.collect import collect_from_config
from jowa_jax.configuration import ConfigError, build, differences, fill
from jowa_jax.eval import evaluation
from jowa_jax.eval.judge import QUALITY, judge
from jowa_jax.eval.players import load_player
from jowa_jax.eval.protocol import Protocol
from jowa_jax.eval.recording import record
from jowa_jax.eval.records import data_rollouts, write_rollouts
from jowa_jax.eval.rollout import random_policy
from jowa_jax.report import write_report
from jowa_jax.report.video import write_video
from jowa_jax.train.run import CHECKPOINTS, Run

PACKAGES = (
  'jax flax optax orbax-checkpoint chex numpy tensorflow-datasets ale-py'
).split()
METHODS = ('jowa', 'mtbc')
RANDOM = 'random'


@dataclasses.dataclass(frozen=True)
class _Player:
  """One agent to evaluate."""

  method: str  # a trained method, or 'random'
  title: str
  options: dict  # of the method's policy


def _write_json(path: pathlib.Path, value: Any) -> None:
  files.write_text(path, json.dumps(value, indent=2))


class _Clock:
  """Names the phases and adds up their seconds, over restarts."""

  def __init__(self, path: pathlib.Path, phases: int):
    self._path = path
    self._seconds = json.loads(path.read_text()) if path.exists() else {}
    self._phases, self._begun = phases, 0

  @contextlib.contextmanager
  def phase(self, name: str, done: bool) -> Iterator[bool]:
    """Gives whether there is work to do; only then is its time counted."""
    self._begun += 1
    state = ' (done before)' if done else ''
    print(f'\n[{self._begun}/{self._phases}] {name}{state}', flush=True)
    begin = time.monotonic()
    try:
      yield not done
    finally:
      if not done and self._path.parent.is_dir():
        spent = time.monotonic() - begin
        self._seconds[name] = self._seconds.get(name, 0.0) + spent
        _write_json(self._path, self._seconds)


# For messages: who fills in a field.
_FILLS = 'quickstart fills this field from games, seed and workdir'


def resolve(config: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the config with what its parts share filled in.

  Raises:
    ConfigError: a field that is filled in was set.
    ValueError: a game is unknown.
  """
  config = json.loads(json.dumps(config))
  games = games_lib.parse_games(config['games'])
  for name in METHODS:
    part, where = config[name], name
    fill(part['data'], 'games', list(games), f'{where}.data', _FILLS)
    fill(
      part['data'], 'directory', str(workdir / 'data'), f'{where}.data', _FILLS
    )
    fill(
      part['data'],
      'token_cache',
      str(workdir / 'tokens'),
      f'{where}.data',
      _FILLS,
    )
    fill(part['run'], 'seed', config['seed'], f'{where}.run', _FILLS)
    if not part['data']['held_out_fraction']:
      raise ConfigError(
        f'{where}.data.held_out_fraction must be above 0: the report judges '
        'the model on episodes it was not trained on'
      )
  if config['evaluate']['num_dreams'] < 1:
    raise ConfigError('evaluate.num_dreams must be at least 1, for the report')
  # MTBC starts from what JOWA trained.
  checkpoints = str(workdir / 'jowa' / CHECKPOINTS)
  fill(config['mtbc']['init_from'], 'checkpoints', checkpoints, 'mtbc', _FILLS)
  fill(config['collect'], 'games', list(games), 'collect', _FILLS)
  fill(config['collect'], 'seed', config['seed'], 'collect', _FILLS)
  return config


def _players(config: Mapping[str, Any]) -> dict[str, _Player]:
  return {
    name: build(_Player, player, f'evaluate.agents.{name}')
    for name, player in config['evaluate']['agents'].items()
  }


def _check_players(
  players: Mapping[str, _Player], runs: Mapping[str, Run], films: Sequence[str]
):
  """Raises ConfigError, long before they play, if one cannot be made."""
  for name, player in players.items():
    if 'epsilon' in player.options:
      raise ConfigError(
        f'evaluate.agents.{name}: epsilon is set in evaluate.protocol'
      )
    try:
      if player.method == RANDOM:
        random_policy(**player.options)
      elif player.method in runs:
        runs[player.method].method.policy(**player.options)
      else:
        raise ValueError(f'unknown method {player.method!r}')
    except (TypeError, ValueError) as error:
      raise ConfigError(f'evaluate.agents.{name}: {error}') from error
  for name in films:
    if name not in players or players[name].method == RANDOM:
      raise ConfigError(f'evaluate.films: {name!r} is no trained agent')


def quickstart(
  config: Mapping[str, Any], workdir: str | pathlib.Path, progress: bool = True
) -> pathlib.Path:
  """Runs all phases that are not done yet.

  Args:
    config: of `configs/quickstart.py`.
    workdir: where everything goes.
    progress: show progress bars.

  Returns:
    The path of the report.

  Raises:
    ConfigError: the directory was begun with another config, or a field does
      not fit. Nothing is written then.
  """
  workdir = pathlib.Path(workdir).resolve()
  config = resolve(config, workdir)
  runs = {name: Run(config[name], workdir / name) for name in METHODS}
  protocol = build(
    Protocol, config['evaluate']['protocol'], 'evaluate.protocol'
  )
  players = _players(config)
  _check_players(players, runs, config['evaluate']['films'])
  _check_directory(workdir / 'config.json', config)
  clock = _Clock(workdir / 'timings.json', len(METHODS) + len(players) + 3)
  with clock.phase(
    'Play the games for data', (workdir / 'config.json').exists()
  ) as to_do:
    if to_do:
      for split in collect_from_config(
        config['collect'], workdir / 'data', progress
      ):
        print(split)
      # From here on the directory is this config's.
      _write_json(workdir / 'config.json', config)
  for name, run in runs.items():
    with clock.phase(f'Train {name.upper()}', run.is_finished()) as to_do:
      if to_do:
        run.train(progress)
  folder = workdir / 'eval'
  agents = {name: load(workdir / name) for name in METHODS}
  quality_file = folder / QUALITY
  with clock.phase(
    'Look at what the model sees and dreams', quality_file.exists()
  ) as to_do:
    if to_do:
      data = runs['jowa'].load_data()
      write_rollouts(folder / 'data.jsonl', data_rollouts(data.episodes))
      judge(
        agents['jowa'],
        data,
        folder,
        cloner=agents['mtbc'],
        num_dreams=config['evaluate']['num_dreams'],
      )
  games = games_lib.parse_games(config['games'])
  for name, player in players.items():
    path = folder / f'{name}.jsonl'
    wanted = len(games) * protocol.rollouts
    done = path.exists() and path.read_text().count('\n') >= wanted
    with clock.phase(f'Evaluate {player.title}', done) as to_do:
      if to_do:
        checkpoint = (
          None if player.method == RANDOM else workdir / player.method
        )
        evaluation.run(
          load_player(name, checkpoint),
          games,
          protocol,
          config['seed'],
          path,
          options=dict.fromkeys(games, player.options),
          progress=progress,
        )
  with clock.phase('Film the agents', (folder / 'videos').exists()) as to_do:
    if to_do:
      _film(
        config['evaluate'],
        agents,
        players,
        games,
        protocol,
        config['seed'],
        folder,
      )
  _write_json(workdir / 'versions.json', _versions())
  return write_report(workdir)


def _film(
  config: Mapping[str, Any],
  agents: Mapping[str, Agent],
  players: Mapping[str, _Player],
  games: Sequence[str],
  protocol: Protocol,
  seed: int,
  folder: pathlib.Path,
) -> None:
  """Writes `videos/<player>-<Game>.mp4`; the folder appears when whole."""
  unfinished = folder / '.videos'
  unfinished.mkdir(parents=True, exist_ok=True)
  for name in config['films']:
    player = players[name]
    for game in games:
      recording = record(
        agents[player.method],
        game,
        protocol=protocol,
        seed=seed,
        max_decisions=config['film_decisions'],
        **player.options,
      )
      write_video(unfinished / f'{name}-{game}.mp4', recording)
  unfinished.rename(folder / 'videos')


def _check_directory(path: pathlib.Path, config: dict[str, Any]) -> None:
  changed = []
  if path.exists():
    changed = differences(json.loads(path.read_text()), config)
  if changed:
    lines = '\n  '.join(changed)
    raise ConfigError(
      f'{path.parent} was begun with another config; give another directory '
      f'or restore these fields:\n  {lines}'
    )


def _versions() -> dict[str, str]:
  versions = {name: metadata.version(name) for name in PACKAGES}
  return {'python': platform.python_version(), **versions}
