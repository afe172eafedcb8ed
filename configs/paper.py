"""The paper's tables as a study: `study.py:paper`.

15 games, all methods and sizes, ablations, planners and fine-tuning, each a
cell of ordinary commands.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import cells

# Lists of games.py, and those of one of them, which are fine-tuned one by one.
_PRETRAIN, _ABLATION = ('pretrain',), ('ablation',)
_HELD_OUT = ('Pong', 'Robotank', 'YarsRevenge', 'Gravitar', 'MsPacman')
_COUNTS = {'pretrain': 15, 'ablation': 6}
# Table 19: where the paper's JOWA-150M is poor without planning.
_PLANNED = (
  *('BeamRider', 'Berzerk', 'Carnival', 'ChopperCommand', 'Seaquest'),
  *('TimePilot', 'Zaxxon'),
)

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
    commands[planner or 'play'] = cells.evaluation(
      name, games, 0, _minutes(planner, games), **own, **flags
    )
  return commands, agents


def _prepared(games: str, **which) -> ConfigDict:
  """A cell of data that are drawn from the logs of DQN-Replay."""
  command = cells.command(
    'prepare_data',
    source='dqn_replay',
    input='{logs}',
    games=games,
    output='{cell}/data',
    progress=False,
    **which,
  )
  return cells.cell(dict(prepare=command), data=games, shared=True)


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
    train = cells.training(f'configs/{method}.py:{size}', games, 'pretrain', 0)
    config.cells[name] = cells.cell(
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
    train = cells.training(
      'configs/jowa.py:40m',
      games,
      'pretrain',
      0,
      stages=_ABLATION_STAGES,
      **fields,
    )
    config.cells[name] = cells.cell(
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
      tune = cells.command(
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
      config.cells[f'{agent}_{game}'] = cells.cell(
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


def make_study() -> ConfigDict:
  """The study: cells of data, pretrained agents, ablations, fine-tuned ones."""
  config = cells.study(
    'The tables of the paper',
    '15 games of DQN-Replay, two runs of each and a tenth of their '
    'transitions; 16 episodes by the protocol of the paper. One seed.',
    'one GPU',
    # Of an H100, 40 % of its dense bfloat16 peak: given, not measured.
    4e14,
  )
  config.places.logs = 'gs://atari-replay-datasets/dqn'  # or a local copy
  config.cells.pretrain = _prepared('pretrain', runs='random:2', fraction=0.1)
  for quality in _QUALITIES:
    config.cells[quality] = _prepared(
      'held_out', checkpoints=quality, transitions=5000
    )
  cells.baselines(config, _PRETRAIN, 10.0, {})
  _pretrained(config)
  _ablations(config)
  _finetuned(config)
  return config
