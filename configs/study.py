"""Tables of agents that are compared, `study.py:NAME`.

`laptop` is every method at 0.7 to 2.2 million parameters on recorded play of
two games, three seeds, two to three hours of two cores; `overnight` the same on
five games for 65 minutes each, 21 hours in all. `paper` is the paper's
tables: 15 games, all methods and sizes, ablations, planners, fine-tuning.
`smoke` is for tests. A cell is a row of ordinary commands; a study of your own
is a function like these.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import cells, overnight, paper

# Of every method: config, steps of its stages, and players by planner.
# Equal minutes, not tokens: each is trained for about five on two cores.
_SHORT = dict(context_length=2)
# The paper's score loses where small values are noise: see launch/results.
_BEAM = dict(planner='beam', width=2, horizon=2, path_score='mean', **_SHORT)
_LAPTOP = {
  'jowa': (
    'configs/small.py:jowa',
    dict(stage1=1100, stage2=800),
    dict(none=dict(planner='none', **_SHORT), beam=_BEAM),
  ),
  'mtbc': (
    'configs/small.py:mtbc_scratch',
    dict(stage1=1100, stage2=1000),
    {'': _SHORT},
  ),
  'mgdt': ('configs/mgdt.py:quickstart', dict(policy=1100), {'': {}}),
  'edt': (
    'configs/edt.py:quickstart',
    dict(policy=1000),
    # Half of the histories that it would choose from: its play takes longest.
    {'': dict(history_stride=4)},
  ),
  'scaled_ql': ('configs/scaled_ql.py:quickstart', dict(q=1700), {'': {}}),
  'ficc': ('configs/ficc.py:quickstart', dict(watching=300, q=400), {'': {}}),
}
_SMOKE = {
  'jowa': (
    'configs/jowa.py:smoke',
    {},
    dict(
      none=dict(planner='none'), beam=dict(planner='beam', width=2, horizon=1)
    ),
  ),
  'mgdt': ('configs/mgdt.py:smoke', {}, {'': {}}),
  'scaled_ql': ('configs/scaled_ql.py:smoke', {}, {'': {}}),
}
_READ_TOKENS = ('jowa', 'mtbc')


def _methods(
  config: ConfigDict,
  agents: dict[str, tuple],
  games: Sequence[str],
  source: str,
  size: str,
  seeds: Sequence[int],
  rules: dict[str, dict],
  minutes: dict[str, float],
) -> None:
  """Adds cells of all methods, trained on the data of one cell.

  Args:
    config: the study.
    agents: by method: config, steps by stage, flags by planner.
    games: that they are trained on, and scored in.
    source: the cell of their data.
    size: what the report calls their size.
    seeds: of everything.
    rules: fields of the protocol by planner; '' for all others.
    minutes: by planner, of playing; 'train', of training.
  """
  for seed in seeds:
    for method, (file, steps, players) in agents.items():
      data = {}
      if method in _READ_TOKENS:
        # Encoded once, when the tokenizer is trained.
        data = dict(token_cache='{cell}/tokens')
      fields = {}
      if steps:
        fields['stages'] = {name: dict(steps=n) for name, n in steps.items()}
      commands = dict(
        train=cells.training(
          file, games, source, seed, minutes['train'], data, **fields
        )
      )
      names = {}
      for planner, flags in players.items():
        agent = f'{method}_beam' if planner == 'beam' else method
        names[agent] = planner
        kind = planner if planner in rules else ''
        commands[planner or 'play'] = cells.evaluation(
          agent, games, seed, minutes[kind], rules[kind], **flags
        )
      config.cells[f'{method}_s{seed}'] = cells.cell(
        commands,
        method=method,
        size=size,
        games=games,
        data=source,
        seed=seed,
        agents=names,
        needs=(source,),
      )


def _recorded(games: Sequence[str]) -> ConfigDict:
  """Recorded play, played again, and what it scored."""
  replay = cells.command(
    'collect',
    3.0,
    # Of the poorer play, most decisions are random.
    dict(replay=dict(checkpoints=(2, 3, 4))),
    config='configs/collect.py',
    replay=','.join(games),
    output='{cell}/data',
    progress=False,
  )
  scores = cells.command(
    'inspect_data', 1.0, data='{cell}/data', scores='{cell}/results/data.jsonl'
  )
  return cells.cell(
    dict(replay=replay, scores=scores),
    games=games,
    agents=dict(data=''),
    shared=True,
  )


def _small(
  title: str,
  minutes: float,
  agents: dict[str, tuple],
  games: Sequence[str],
) -> ConfigDict:
  """All methods on recorded play, for as many minutes each, three seeds."""
  config = cells.study(
    title,
    'Every method at 0.7 to 2.2 million parameters, trained for as many steps '
    f'as are about {minutes:g} minutes of two CPU cores, on the same recorded '
    f'play of {len(games)} games. 16 episodes of at most 1,000 decisions, '
    '5 % of them random; planning plays four.',
    'two CPU cores',
    2e10,
  )
  config.cells.recorded = _recorded(games)
  # The games know no chance: with the paper's 0.001 nearly all episodes would
  # be the same one. Who survives without scoring would take hours.
  rules = dict(epsilon=0.05, max_frames=4000)
  share = len(games) / 2
  cells.baselines(config, games, 0.5 * share, rules)
  _methods(
    config,
    agents,
    games,
    'recorded',
    'small',
    (0, 1, 2),
    {'': dict(rollouts=16, **rules), 'beam': dict(rollouts=4, **rules)},
    {'train': minutes, '': 0.75 * share, 'beam': 2.5 * share},
  )
  return config


def _laptop() -> ConfigDict:
  games = ('Freeway', 'RoadRunner')
  return _small('Six methods on a laptop', 5.0, _LAPTOP, games)


def _overnight() -> ConfigDict:
  """Five games that a search played, and an hour for each method."""
  agents = {}
  for method, (file, steps, players) in _LAPTOP.items():
    long = {stage: 25 * count // 2 for stage, count in steps.items()}
    if method == 'jowa':
      file, long = 'configs/overnight.py:jowa_searched', {}
    elif method == 'mtbc':
      # The tokenizer's steps are JOWA's.
      long['stage1'] = 4000
    agents[method] = file, long, players
  return _small('Six methods overnight', 65.0, agents, overnight.SEARCHED)


def _smoke() -> ConfigDict:
  config = cells.study(
    'A study of tests', 'Nothing is learned.', 'one core', 1e9
  )
  games = ('Assault', 'Carnival')
  play = cells.command(
    'collect',
    0.2,
    dict(games=','.join(games)),
    config='configs/collect.py:smoke',
    output='{cell}/data',
    progress=False,
  )
  config.cells.played = cells.cell(dict(play=play), shared=True)
  rules = dict(rollouts=2, max_frames=80)
  cells.baselines(config, games, 0.1, rules)
  minutes = {'train': 0.0, '': 0.1}
  _methods(
    config, _SMOKE, games, 'played', 'smoke', (0, 1), {'': rules}, minutes
  )
  return config


def get_config(name: str = 'laptop') -> ConfigDict:
  """The config of a study.

  Raises:
    ValueError: there is no such study.
  """
  makers = {
    'laptop': _laptop,
    'overnight': _overnight,
    'paper': paper.make_study,
    'smoke': _smoke,
  }
  if name not in makers:
    raise ValueError(f'Unknown study {name!r}; there are {tuple(makers)}')
  return makers[name]().lock()
