"""Tables of agents that are compared, `study.py:laptop|paper|smoke`.

`laptop` is every method at one to two million parameters on recorded play of
four games, three seeds, a night of two cores. `paper` is the paper's tables: 15
games, all methods and sizes, ablations, planners, fine-tuning. `smoke` is for
tests. A cell is a row of ordinary commands; a study of your own is a function
like the three at the end.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

_LAPTOP_GAMES = ('Freeway', 'MsPacman', 'Qbert', 'RoadRunner')
# Lists of games.py, and those of one of them, which are fine-tuned one by one.
_PRETRAIN, _ABLATION = ('pretrain',), ('ablation',)
_HELD_OUT = ('Pong', 'Robotank', 'YarsRevenge', 'Gravitar', 'MsPacman')
_COUNTS = {'pretrain': 15, 'ablation': 6}
# Table 19: where the paper's JOWA-150M is poor without planning.
_PLANNED = (
  *('BeamRider', 'Berzerk', 'Carnival', 'ChopperCommand', 'Seaquest'),
  *('TimePilot', 'Zaxxon'),
)


def _command(
  script: str, minutes: float = 0.0, fields=None, **flags
) -> ConfigDict:
  """A script of `launch/`, its flags, and fields of its config."""
  return ConfigDict(
    dict(
      script=script,
      flags=flags,  # {study}, {cell} and the names of `places` are directories
      set=fields or {},
      # Of one `device`; 0 leaves it to what its config computes.
      minutes=minutes,
    )
  )


def _cell(commands: dict[str, ConfigDict], **fields) -> ConfigDict:
  """One place in the table."""
  cell = dict(
    method='',  # and size: what the report groups agents by
    size='',
    games=(),  # that it is scored in
    data='',
    quality='',  # of the data of a game that it is fine-tuned on
    ablation='',
    seed=0,
    agents={},  # planners by the names of agents: results/<agent>.jsonl
    needs=(),  # cells that come first
    shared=False,  # made by every machine that needs it
  )
  cell |= fields
  cell['commands'] = ConfigDict(dict(order=tuple(commands), **commands))
  return ConfigDict(cell)


def _study(title: str, text: str, device: str, flops: float) -> ConfigDict:
  config = ConfigDict()
  config.title = title
  config.text = text
  # What minutes are those of, and operations a second that it reaches.
  config.device = device
  config.flops = flops
  config.places = ConfigDict()  # directories outside the study, by name
  config.cells = ConfigDict()
  return config


def _training(
  config: str,
  games: Sequence[str],
  source: str,
  seed: int,
  minutes: float = 0.0,
  data=None,
  **fields,
) -> ConfigDict:
  """`launch.train` on the data of another cell."""
  where = f'{{study}}/cells/{source}/data'
  return _command(
    'train',
    minutes,
    dict(
      run=dict(seed=seed),
      data=dict(directory=where, games=games, **(data or {})),
      **fields,
    ),
    config=config,
    workdir='{cell}/run',
    progress=False,
  )


def _evaluation(
  agent: str,
  games: Sequence[str],
  seed: int,
  minutes: float,
  protocol=None,
  checkpoint='{cell}/run',
  **flags,
) -> ConfigDict:
  """`launch.evaluate`, by the paper's rules but for what `protocol` says."""
  if checkpoint:
    flags['checkpoint'] = checkpoint
  return _command(
    'evaluate',
    minutes,
    dict(protocol=protocol) if protocol else {},
    config='configs/evaluate.py:paper',
    games=','.join(games),
    seed=seed,
    output=f'{{cell}}/results/{agent}.jsonl',
    progress=False,
    **flags,
  )


def _baselines(
  config: ConfigDict, games: Sequence[str], minutes: float, protocol: dict
) -> None:
  """Random play, and the scores of what is learned from."""
  config.cells.random = _cell(
    dict(play=_evaluation('random', games, 0, minutes, protocol, '')),
    games=games,
    agents=dict(random=''),
  )


# Config, fields of it, and players by planner, of every method on two cores.
# Equal minutes, not tokens: each is trained for about seven. Steps are what it
# takes in them: of processor seconds of a step, measured, four fifths of two
# cores are in use.
_SHORT = dict(context_length=2)
# The paper's score loses where small values are noise: see launch/results.
_BEAM = dict(planner='beam', width=2, horizon=2, path_score='mean', **_SHORT)
_LAPTOP = {
  'jowa': (
    'configs/small.py:jowa',
    dict(stage1=dict(steps=1500), stage2=dict(steps=1100)),
    dict(none=dict(planner='none', **_SHORT), beam=_BEAM),
  ),
  'mtbc': (
    'configs/small.py:mtbc_scratch',
    dict(stage1=dict(steps=1500), stage2=dict(steps=1350)),
    {'': _SHORT},
  ),
  'mgdt': (
    'configs/mgdt.py:quickstart',
    dict(policy=dict(steps=1500)),
    {'': {}},
  ),
  'edt': ('configs/edt.py:quickstart', dict(policy=dict(steps=1400)), {'': {}}),
  'scaled_ql': (
    'configs/scaled_ql.py:quickstart',
    dict(q=dict(steps=2400)),
    {'': {}},
  ),
  'ficc': (
    'configs/ficc.py:quickstart',
    # Watching takes some eight seconds a step, twelve times what its operations
    # would at the others' rate; Q's steps are reckoned from their operations.
    dict(
      watching=dict(steps=30, watching=dict(warmup_steps=3)),
      q=dict(steps=400),
    ),
    {'': {}},
  ),
}
# Of methods that read tokens: encoded once, when the tokenizer is trained.
_TOKENS = dict(jowa='{cell}/tokens', mtbc='{cell}/tokens')


def _recorded(games: Sequence[str]) -> ConfigDict:
  """Recorded play, played again, and what it scored."""
  replay = _command(
    'collect',
    3.0,
    # Of the poorer play, most decisions are random.
    dict(replay=dict(checkpoints=(2, 3, 4))),
    config='configs/collect.py',
    replay=','.join(games),
    output='{cell}/data',
    progress=False,
  )
  scores = _command(
    'inspect_data', 1.0, data='{cell}/data', scores='{cell}/results/data.jsonl'
  )
  return _cell(
    dict(replay=replay, scores=scores),
    games=games,
    agents=dict(data=''),
    shared=True,
  )


def _laptop() -> ConfigDict:
  config = _study(
    'Six methods on a laptop',
    'Every method at one to two million parameters, trained for about seven '
    'minutes on two CPU cores on the same recorded play of four games. 16 '
    'episodes of at most 1,000 decisions, 5 % of them random; planning plays '
    'four.',
    'two CPU cores',
    2e10,
  )
  games = _LAPTOP_GAMES
  config.cells.recorded = _recorded(games)
  # The games know no chance: with the paper's 0.001 nearly all episodes would
  # be the same one. Who survives without scoring would take hours.
  rules = dict(epsilon=0.05, max_frames=4000)
  _baselines(config, games, 1.0, rules)
  for seed in (0, 1, 2):
    for method, (file, stages, players) in _LAPTOP.items():
      own = dict(token_cache=_TOKENS[method]) if method in _TOKENS else {}
      commands = dict(
        train=_training(
          file, games, 'recorded', seed, 7.5, stages=stages, data=own
        )
      )
      agents = {}
      for planner, flags in players.items():
        agent = f'{method}_beam' if planner == 'beam' else method
        agents[agent] = planner
        rollouts = dict(rollouts=4 if planner == 'beam' else 16)
        commands[planner or 'play'] = _evaluation(
          agent,
          games,
          seed,
          5.0 if planner == 'beam' else 1.5,
          rules | rollouts,
          **flags,
        )
      config.cells[f'{method}_s{seed}'] = _cell(
        commands,
        method=method,
        size='small',
        games=games,
        data='recorded',
        seed=seed,
        agents=agents,
        needs=('recorded',),
      )
  return config


# Agents of Table 2 and Figure 2: config and players by planner. Widths are
# Table 17's, which configs/evaluate.py has.
_JOWA = dict(none=dict(planner='none'), beam=dict(planner='beam'))
_PAPER = {
  **{('jowa', size): _JOWA for size in ('40m', '70m', '150m')},
  **{('mtbc', size): {'': {}} for size in ('40m', '70m', '150m')},
  ('mgdt', '40m'): {'': {}},
  ('mgdt', '200m'): {'': {}},
  ('edt', '200m'): {'': {}},
  ('scaled_ql', 'resnet101'): {'': {}},
  ('ficc', '85m'): {'': {}},
}
# Fields of configs/jowa.py:40m in Tables 6 and 20, and of its stages, which are
# 1 million steps together; how many of them are the first stage's is ours.
_ABLATION_STAGES = dict(stage1=dict(steps=250_000), stage2=dict(steps=750_000))
_ABLATIONS = {
  'origin': {},
  'no_cql': dict(losses=dict(cql_weight=0.0)),
  'no_world': dict(losses=dict(world_weight=0.0)),
  'stop_gradient': dict(losses=dict(stop_gradient=True)),
  'mse': dict(returns=dict(num_atoms=1)),
  'equal_heads': dict(heads=dict(num_heads=3)),
  'random_heads': dict(heads=dict(num_heads=3), losses=dict(rem=True)),
  'no_task_embedding': dict(backbone=dict(task_embedding=False)),
  'synthetic': dict(
    losses=dict(penalty='combo'),
    imagination=dict(policy='epsilon_greedy', start_step=0, horizon=4),
  ),
}
# Who is fine-tuned on expert play in Table 3, and JOWA-150M from scratch; it
# alone on other play, too (Table 21).
_FINETUNED = (
  *(('jowa', '40m'), ('jowa', '70m'), ('jowa', '150m'), ('mtbc', '150m')),
  *(('mgdt', '200m'), ('edt', '200m'), ('scaled_ql', 'resnet101')),
  ('ficc', '85m'),
)
_QUALITIES = ('expert', 'suboptimal', 'highly_suboptimal')
# Decisions a second of one device, given and not measured, by planner, many
# environments at once; and decisions of an episode, of which there are 16.
_DECISIONS = {'': 2000.0, 'none': 2000.0, 'beam': 100.0, 'mcts': 10.0}
_EPISODE = 16 * 2000


def _minutes(planner: str, games: Sequence[str]) -> float:
  count = sum(_COUNTS.get(game, 1) for game in games)
  return count * _EPISODE / _DECISIONS[planner] / 60


def _players(
  agent: str, games: Sequence[str], players: dict, **flags
) -> tuple[dict[str, ConfigDict], dict[str, str]]:
  """Commands that play, and planners by the names of agents."""
  commands, agents = {}, {}
  for planner, own in players.items():
    name = agent if planner in ('', 'none') else f'{agent}_{planner}'
    agents[name] = planner
    commands[planner or 'play'] = _evaluation(
      name, games, 0, _minutes(planner, games), **own, **flags
    )
  return commands, agents


def _prepared(games: str, **which) -> ConfigDict:
  """A cell of data that are drawn from the logs of DQN-Replay."""
  command = _command(
    'prepare_data',
    source='dqn_replay',
    input='{logs}',
    games=games,
    output='{cell}/data',
    progress=False,
    **which,
  )
  return _cell(dict(prepare=command), data=games, shared=True)


def _pretrained(config: ConfigDict) -> None:
  """All methods and sizes on 15 games, and the other search on seven."""
  games = _PRETRAIN
  for (method, size), players in _PAPER.items():
    name = f'{method}_{size}'
    commands, agents = _players(name, games, players)
    if name == 'jowa_150m':
      # Appendix F searches the depth of each game; this is the deepest.
      search = dict(planner='mcts', horizon=6, num_simulations=20)
      some, more = _players(name, _PLANNED, dict(mcts=search))
      commands, agents = commands | some, agents | more
    train = _training(f'configs/{method}.py:{size}', games, 'pretrain', 0)
    config.cells[name] = _cell(
      dict(train=train, **commands),
      method=method,
      size=size,
      games=games,
      data='pretrain',
      agents=agents,
      needs=('pretrain',),
    )


def _ablations(config: ConfigDict) -> None:
  """What JOWA-40M is without its parts, on six games."""
  games = _ABLATION
  for ablation, fields in _ABLATIONS.items():
    name = f'jowa_40m_{ablation}'
    commands, agents = _players(name, games, dict(beam=_JOWA['beam']))
    train = _training(
      'configs/jowa.py:40m',
      games,
      'pretrain',
      0,
      stages=_ABLATION_STAGES,
      **fields,
    )
    config.cells[name] = _cell(
      dict(train=train, **commands),
      method='jowa',
      size='40m',
      games=games,
      data='pretrain',
      ablation=ablation,
      agents=agents,
      needs=('pretrain',),
    )


def _finetuned(config: ConfigDict) -> None:
  """Agents on 5,000 transitions of games that they never saw."""
  who = [(*agent, 'expert', f'{"_".join(agent)}') for agent in _FINETUNED]
  who += [('jowa', '150m', quality, 'jowa_150m') for quality in _QUALITIES[1:]]
  who += [('jowa', '150m', 'expert', '')]
  for method, size, quality, source in who:
    agent = f'{method}_{size}_{quality}' if source else 'jowa_150m_scratch'
    for game in _HELD_OUT:
      of_config = f'{method}_{size}' if method != 'jowa' else size
      flags = dict(checkpoint=f'{{study}}/cells/{source}/run') if source else {}
      tune = _command(
        'finetune',
        config=f'configs/finetune.py:{of_config}',
        game=game,
        # Drawn by quality already: 5,000 of each game.
        data=f'{{study}}/cells/{quality}/data',
        workdir='{cell}/run',
        progress=False,
        **flags,
      )
      # The snapshot that scored best, as in the paper, without planning.
      players = dict(none=_JOWA['none']) if method == 'jowa' else {'': {}}
      commands, agents = _players(agent, (game,), players, best=True)
      config.cells[f'{agent}_{game}'] = _cell(
        dict(finetune=tune, **commands),
        method=method,
        size=size,
        games=(game,),
        data=quality,
        quality=quality,
        ablation='' if source else 'scratch',
        agents=agents,
        needs=(quality, *([source] if source else [])),
      )


def _paper() -> ConfigDict:
  config = _study(
    'The tables of the paper',
    '15 games of DQN-Replay, two runs of each and a tenth of their '
    'transitions; 16 episodes by the protocol of the paper. One seed.',
    'one GPU',
    # Of an H100, 40 % of its dense bfloat16 peak: given, not measured.
    4e14,
  )
  config.places.logs = 'gs://atari-replay-datasets/dqn'  # or a local copy
  cells = config.cells
  cells.pretrain = _prepared('pretrain', runs='random:2', fraction=0.1)
  for quality in _QUALITIES:
    cells[quality] = _prepared(
      'held_out', checkpoints=quality, transitions=5000
    )
  _baselines(config, _PRETRAIN, 10.0, {})
  _pretrained(config)
  _ablations(config)
  _finetuned(config)
  return config


_SMOKE = {
  'jowa': ('configs/jowa.py:smoke', dict(none='none', beam='beam')),
  'mgdt': ('configs/mgdt.py:smoke', {'': ''}),
  'scaled_ql': ('configs/scaled_ql.py:smoke', {'': ''}),
}


def _smoke() -> ConfigDict:
  config = _study('A study of tests', 'Nothing is learned.', 'one core', 1e9)
  games = ('Assault', 'Carnival')
  config.cells.played = _cell(
    dict(
      play=_command(
        'collect',
        0.2,
        dict(games=','.join(games)),
        config='configs/collect.py:smoke',
        output='{cell}/data',
        progress=False,
      )
    ),
    shared=True,
  )
  rules = dict(rollouts=2, max_frames=80)
  _baselines(config, games, 0.1, rules)
  for seed in (0, 1):
    for method, (file, players) in _SMOKE.items():
      commands = dict(train=_training(file, games, 'played', seed))
      agents = {}
      for planner in players:
        agent = f'{method}_beam' if planner == 'beam' else method
        flags = dict(planner=planner) if planner else {}
        if planner == 'beam':
          flags |= dict(width=2, horizon=1)
        agents[agent] = planner
        commands[planner or 'play'] = _evaluation(
          agent, games, seed, 0.1, rules, **flags
        )
      config.cells[f'{method}_s{seed}'] = _cell(
        commands,
        method=method,
        size='smoke',
        games=games,
        data='played',
        seed=seed,
        agents=agents,
        needs=('played',),
      )
  return config


def get_config(name: str = 'laptop') -> ConfigDict:
  """The config of a study.

  Raises:
    ValueError: there is no such study.
  """
  makers = {'laptop': _laptop, 'paper': _paper, 'smoke': _smoke}
  if name not in makers:
    raise ValueError(f'Unknown study {name!r}; there are {tuple(makers)}')
  return makers[name]().lock()
