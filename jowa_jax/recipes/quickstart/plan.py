"""From a config to all that is to be done; nothing is written."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jowa_jax import games as games_lib
from jowa_jax.agent import Agent, load
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.collect.recordings import Recorded
from jowa_jax.configuration import ConfigError, build, fill
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval.rollout import random_policy
from jowa_jax.methods.tokenizer import TOKENIZER
from jowa_jax.recipes import finetuning
from jowa_jax.recipes.quickstart import recorded as recorded_lib
from jowa_jax.recipes.quickstart.settings import (
  FINETUNE,
  NEW,
  PLAY,
  RANDOM,
  AgentConfig,
  Chapter,
  Data,
  Evaluate,
  Judge,
  Settings,
  Training,
)
from jowa_jax.train.run import Run

# For messages: who fills in a field.
_FILLS = 'quickstart fills this field from games, seed and workdir'


class Plan(NamedTuple):
  """All of a quickstart, checked."""

  config: dict[str, Any]  # with what was left empty filled in
  workdir: pathlib.Path
  games: dict[str, tuple[str, ...]]  # of the data sets, by name
  known_games: tuple[str, ...]  # those of pretrained agents that are played
  data: dict[str, Data]
  recorded: dict[str, list[Recorded]]  # by game
  agents: dict[str, Agent]  # pretrained
  runs: dict[str, Run]  # in the order in which they are trained
  data_of: dict[str, str]  # by run
  judge: Judge
  evaluate: Evaluate
  protocol: Protocol
  players: dict[str, AgentConfig]  # in the order in which they play
  chapters: dict[str, Chapter]

  @property
  def seed(self) -> int:
    return self.config['seed']

  def games_of(self, player: str) -> tuple[str, ...]:
    """The games that a player plays."""
    agent = self.players[player].agent
    if agent in self.agents:
      return self.known_games
    if agent in self.data_of:
      return self.games[self.data_of[agent]]
    others = [self.known_games] if self.agents else []
    others += self.games.values()
    return tuple(dict.fromkeys(game for some in others for game in some))

  def checkpoint(self, player: str) -> str | None:
    """Where a player's agent is to be loaded from."""
    agent = self.players[player].agent
    if agent == RANDOM:
      return None
    return self.config['pretrained'].get(agent) or str(self.workdir / agent)


def make_plan(config: Mapping[str, Any], workdir: pathlib.Path) -> Plan:
  """What a config asks for.

  Raises:
    ConfigError: a field does not fit, or one that is filled in was set.
    ValueError: a game, a recording or a pretrained agent is not there.
  """
  config = json.loads(json.dumps(config))
  settings = build(Settings, config, 'config')
  agents = {name: load(path) for name, path in settings.pretrained.items()}
  data = {
    name: build(Data, config['data'][name], f'data.{name}')
    for name in (PLAY, NEW)
    if name in config['data']
  }
  recorded = recorded_lib.read(settings.recordings)
  known, games = _games(settings, agents, recorded)
  for name, spec in data.items():
    recorded_lib.check(recorded, games[name], spec.checkpoints, name)
  if NEW in games:
    config['new_game'] = games[NEW][0]
  runs = _runs(config, workdir, games, agents)
  evaluate = build(Evaluate, config['evaluate'], 'evaluate')
  chapters = _chapters(evaluate)
  plan = Plan(
    config=config,
    workdir=workdir,
    games=games,
    known_games=known,
    data=data,
    recorded=recorded,
    agents=agents,
    runs=runs,
    data_of={name: config['runs'][name]['data'] for name in runs},
    judge=build(Judge, config['judge'], 'judge'),
    evaluate=evaluate,
    protocol=build(Protocol, evaluate.protocol, 'evaluate.protocol'),
    players=_players(evaluate, chapters),
    chapters=chapters,
  )
  _check_players(plan)
  _check_judge(plan)
  return plan


def _games(
  settings: Settings,
  agents: Mapping[str, Agent],
  recorded: Mapping[str, Any],
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
  """The games that are known, and those of each data set."""
  trained = dict.fromkeys(g for a in agents.values() for g in a.games)
  known = tuple(trained)
  if settings.games:
    known = games_lib.parse_games(settings.games)
  games = {PLAY: known} if PLAY in settings.data else {}
  if NEW in settings.data:
    seen = {*known, *trained}
    games[NEW] = (_new_game(settings.new_game, seen, recorded),)
  return known, games


def _runs(
  config: dict[str, Any],
  workdir: pathlib.Path,
  games: Mapping[str, tuple[str, ...]],
  agents: Mapping[str, Agent],
) -> dict[str, Run]:
  """The runs in their order; fills their sections of the config."""
  runs = {}
  for name in config['runs']['order']:
    resolved = _resolve(config, workdir, games, agents, name)
    try:
      runs[name] = Run(resolved, workdir / name)
    except ConfigError as error:
      raise ConfigError(f'runs.{name}.config: {error}') from error
    config['runs'][name]['config'] = runs[name].config
  return runs


def _new_game(wanted: str, seen: set[str], recorded: Mapping[str, Any]) -> str:
  """The game that is learned from few transitions."""
  if wanted:
    if games_lib.check_game(wanted) in seen:
      raise ConfigError(
        f'new_game={wanted!r} was trained on: name another, or none'
      )
    return wanted
  others = [game for game in sorted(recorded) if game not in seen]
  if not others:
    raise ConfigError(
      f'new_game: all that is recorded was trained on ({sorted(recorded)}): '
      'name a recording of another game in recordings'
    )
  return others[0]


def _resolve(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  games: Mapping[str, tuple[str, ...]],
  agents: Mapping[str, Agent],
  name: str,
) -> dict[str, Any]:
  """The training config of a run, what is shared filled in."""
  where = f'runs.{name}'
  spec = build(Training, config['runs'][name], where)
  order = config['runs']['order']
  before = (*agents, *order[: order.index(name)])
  for field in ('source', 'model'):
    if getattr(spec, field) not in ('', *before):
      raise ConfigError(
        f'{where}.{field}={getattr(spec, field)!r} is none of {before}'
      )
  if spec.data not in games:
    raise ConfigError(f'{where}.data={spec.data!r} is none of {list(games)}')
  directory = str(workdir / 'data' / spec.data)
  checkpoints = config['pretrained'].get(spec.source) or (
    str(RunDirectory(workdir / spec.source).checkpoints)
    if spec.source
    else None
  )
  resolved = spec.config
  if spec.kind == FINETUNE:
    model = None
    if spec.model in agents:
      model = agents[spec.model].config
    elif spec.model:
      model = config['runs'][spec.model]['config']
    resolved = finetuning.resolve(
      resolved,
      game=games[spec.data][0],
      data=directory,
      checkpoint=checkpoints,
      model=model,
    )
  else:
    data = resolved['data']
    fill(data, 'games', list(games[spec.data]), f'{where}.config.data', _FILLS)
    fill(data, 'directory', directory, f'{where}.config.data', _FILLS)
    fill(
      resolved['init_from'],
      'checkpoints',
      checkpoints or '',
      f'{where}.config.init_from',
      _FILLS,
    )
  fill(resolved['run'], 'seed', config['seed'], f'{where}.config.run', _FILLS)
  fill(
    resolved['data'],
    'token_cache',
    str(workdir / 'tokens' / f'{spec.data}-{_tokenizer_of(config, name)}'),
    f'{where}.config.data',
    _FILLS,
  )
  return resolved


def _tokenizer_of(config: Mapping[str, Any], name: str) -> str:
  """The run or pretrained agent whose tokenizer a run ends with."""
  spec = config['runs'].get(name)
  if spec is None:
    return name
  stages = spec['config']['stages']
  trains = any(TOKENIZER in stages[s]['parts'] for s in stages['order'])
  options = spec['config'].get('finetune', {})
  trains |= bool(options.get('train_tokenizer'))
  if trains or not spec['source']:
    return name
  return _tokenizer_of(config, spec['source'])


def _chapters(evaluate: Evaluate) -> dict[str, Chapter]:
  sections = dict(evaluate.chapters)
  order = sections.pop('order', [])
  if sorted(order) != sorted(sections):
    raise ConfigError(
      f'evaluate.chapters.order={order} must name {sorted(sections)}'
    )
  return {
    name: build(Chapter, sections[name], f'evaluate.chapters.{name}')
    for name in order
  }


def _players(
  evaluate: Evaluate, chapters: Mapping[str, Chapter]
) -> dict[str, AgentConfig]:
  """The players in the order in which the chapters name them."""
  named = [name for chapter in chapters.values() for name in chapter.agents]
  for name in named:
    if name not in evaluate.agents and name != recorded_lib.DATA:
      raise ConfigError(f'evaluate.chapters: {name!r} is no agent that plays')
  order = [name for name in named if name in evaluate.agents]
  return {
    name: build(AgentConfig, evaluate.agents[name], f'evaluate.agents.{name}')
    for name in dict.fromkeys([*order, *sorted(evaluate.agents)])
  }


def _check_players(plan: Plan) -> None:
  """Raises ConfigError, long before they play, if one cannot be made."""
  made = {**plan.agents, **plan.runs}
  for name, player in plan.players.items():
    where = f'evaluate.agents.{name}'
    if name == recorded_lib.DATA:
      raise ConfigError(f'{where}: the name is that of the recorded play')
    if 'epsilon' in player.options:
      raise ConfigError(f'{where}: epsilon is set in evaluate.protocol')
    try:
      if player.agent == RANDOM:
        random_policy(**player.options)
      elif player.agent in made:
        made[player.agent].method.policy(**player.options)
      else:
        raise ValueError(f'agent={player.agent!r} is none of {[RANDOM, *made]}')
    except (TypeError, ValueError) as error:
      raise ConfigError(f'{where}: {error}') from error
  for name in plan.evaluate.films:
    if name not in plan.players or plan.players[name].agent == RANDOM:
      raise ConfigError(f'evaluate.films: {name!r} is no trained agent')


def _check_judge(plan: Plan) -> None:
  """Raises ConfigError if nothing is held out of what is to be judged."""
  judge = plan.judge
  if not judge.agent:
    return
  if judge.agent in plan.runs:
    judged: Run | Agent = plan.runs[judge.agent]
    where = f'runs.{judge.agent}.config.data'
  elif judge.agent in plan.agents:
    judged = plan.agents[judge.agent]
    where = f'{judge.agent}: data'
  else:
    known = [*plan.agents, *plan.runs]
    raise ConfigError(f'judge.agent={judge.agent!r} is none of {known}')
  if judge.cloner and judge.cloner not in plan.runs:
    raise ConfigError(
      f'judge.cloner={judge.cloner!r} is none of {list(plan.runs)}'
    )
  for name in ('tokenizer', 'simulator'):
    if getattr(judged.method, name) is None:
      raise ConfigError(f'judge.agent={judge.agent!r} has no {name}')
  if not judged.config['data']['held_out_fraction']:
    raise ConfigError(
      f'{where}.held_out_fraction must be above 0: the report judges the model '
      'on episodes it was not trained on'
    )
  if judge.agent in plan.agents:
    recorded_lib.held_out(
      plan.agents[judge.agent], plan.recorded, plan.known_games, judge.decisions
    )


def summary(plan: Plan) -> dict[str, Any]:
  """What the page says of chapters and players, as JSON holds it."""
  names = {
    name: {'title': player.title, 'note': player.note}
    for name, player in plan.players.items()
  }
  chapters = []
  for chapter in plan.chapters.values():
    trained = [
      name
      for name in chapter.agents
      if name in plan.players and plan.players[name].agent != RANDOM
    ]
    games = dict.fromkeys(g for name in trained for g in plan.games_of(name))
    chapters.append({**dataclasses.asdict(chapter), 'games': list(games)})
  return {'chapters': chapters, 'names': names}
