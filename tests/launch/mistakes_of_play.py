"""What users mistype who play, look at play or make data sets of it."""

CASES = {
  'the best of no run': (
    'evaluate',
    ('--games=Assault', '--best', '--output={tmp}/x.jsonl'),
    ['--best', '--checkpoint'],
  ),
  'unknown game': (
    'evaluate',
    ('--games=Asault', '--output={tmp}/x.jsonl'),
    ['Asault', 'Assault'],
  ),
  'missing checkpoint': (
    'evaluate',
    ('--games=Assault', '--checkpoint={tmp}/none', '--output={tmp}/x.jsonl'),
    ['{tmp}/none', 'does not exist'],
  ),
  'a packed agent that is not there': (
    'evaluate',
    (
      '--games=Assault',
      '--checkpoint={tmp}/none.safetensors',
      '--output={tmp}/x.jsonl',
    ),
    ['{tmp}/none.safetensors', 'does not exist'],
  ),
  'planner without agent': (
    'evaluate',
    ('--games=Assault', '--planner=beam', '--output={tmp}/x.jsonl'),
    ['--planner', '--checkpoint'],
  ),
  'zero rollouts': (
    'evaluate',
    ('--games=Assault', '--rollouts=0', '--output={tmp}/x.jsonl'),
    ['rollouts'],
  ),
  'no such protocol': (
    'evaluate',
    (
      '--games=Assault',
      '--output={tmp}/x.jsonl',
      '--config=configs/evaluate.py:sticki',
    ),
    ["'sticki'", 'sticky'],
  ),
  'a shard that is none': (
    'evaluate',
    ('--games=Assault', '--output={tmp}/x.jsonl', '--shard=5/4'),
    ['--shard=5/4', '1/4'],
  ),
  'settings that are none': (
    'sweep',
    (
      '--games=Assault',
      '--checkpoint={tmp}/none',
      '--output={tmp}/sweep',
      '--settings=planner',
    ),
    ['--settings', 'name=value'],
  ),
  'a video of nobody': (
    'video',
    ('--game=Assault', '--checkpoint={tmp}/none', '--output={tmp}/x.mp4'),
    ['{tmp}/none'],
  ),
  'a film of somewhere else': (
    'video',
    (
      '--game=Assault',
      '--checkpoint=pretrained',
      '--dream',
      '--output={tmp}/x.gif',
    ),
    ['{tmp}/x.gif', '.mp4'],
  ),
  'nothing to play in': (
    'play',
    ('--checkpoint={tmp}/none', '--port=0'),
    ['{tmp}/none', 'does not exist'],
  ),
  'a dream of a game that was not seen': (
    'play',
    ('--checkpoint=pretrained', '--game=Pong', '--port=0'),
    ['--game=Pong', 'not trained', 'RoadRunner'],
  ),
  'a dream that teaches nothing': (
    'dream_agent',
    ('--output={tmp}/x', '--steps=0'),
    ['steps=0', 'at least 1'],
  ),
  'a player of a game that is none': (
    'train_player',
    ('--game=Boxin', '--output={tmp}/x'),
    ["'Boxing'"],
  ),
  'a player with an action that is not legal': (
    'train_player',
    ('--game=Freeway', '--output={tmp}/x', '--actions=0,3'),
    ['[3]', 'not legal in Freeway'],
  ),
  'a player where something is': (
    'train_player',
    ('--game=Boxing', '--output={tmp}'),
    ['{tmp}', 'is there already'],
  ),
  'a teacher that is not there': (
    'distill_player',
    ('--teacher={tmp}/none.npz', '--output={tmp}/x'),
    ['{tmp}/none.npz', 'no such network'],
  ),
  'a teacher that is a directory': (
    'distill_player',
    ('--teacher={tmp}', '--output={tmp}/x'),
    ['{tmp} is a directory', '{tmp}/checkpoint_00.npz'],
  ),
  'a student where something is': (
    'distill_player',
    ('--teacher={tmp}/none.npz', '--output={tmp}'),
    ['{tmp}', 'is there already'],
  ),
  'a lesson without a round': (
    'distill_player',
    ('--teacher={tmp}/none.npz', '--output={tmp}/x', '--rounds=0'),
    ['rounds=0', 'at least 1'],
  ),
  'players that are not there': (
    'collect',
    (
      '--config=configs/collect.py:players',
      '--config.games=Boxing',
      '--config.players={tmp}/players',
      '--output={tmp}/x',
    ),
    ['{tmp}/players/Boxing', '0 networks', 'launch.train_player'],
  ),
  'tokens of an agent that are not asked for': (
    'inspect_data',
    ('--data={tmp}', '--checkpoint=pretrained'),
    ['--checkpoint', '--actions'],
  ),
  'nobody to judge': (
    'judge',
    ('--checkpoint={tmp}/none', '--output={tmp}/judged'),
    ['{tmp}/none'],
  ),
  'no agent to diagnose': (
    'diagnose',
    ('--checkpoint={tmp}/none', '--games=Assault', '--output={tmp}/x.json'),
    ['{tmp}/none', 'does not exist'],
  ),
  'a beam that cannot be diagnosed': (
    'diagnose',
    (
      '--checkpoint={tmp}/none',
      '--games=Assault',
      '--output={tmp}/x.json',
      '--horizon=0',
    ),
    ['horizon=0', 'at least 1'],
  ),
  'a page without a place': (
    'report',
    ('--results={tmp}/none.jsonl',),
    ['--output'],
  ),
  'results that are not there': (
    'report',
    ('--results={tmp}/none.jsonl', '--output={tmp}/x.html'),
    ['{tmp}/none.jsonl'],
  ),
  'nothing to report on': ('report', ('--workdir={tmp}/none',), ['{tmp}/none']),
  'unknown game to collect': (
    'collect',
    ('--output={tmp}/data', '--config.games=Pongg'),
    ['Pongg'],
  ),
  'nothing to collect': ('collect', (), ['--output', '--record', '--replay']),
  'a recording of what is recorded': (
    'collect',
    ('--record={tmp}/a.npz', '--replay=Boxing'),
    ['--record and --replay'],
  ),
  'no such recording to collect from': (
    'collect',
    ('--output={tmp}/data', '--replay={tmp}/none.npz'),
    ['{tmp}/none.npz', 'shipped'],
  ),
  'a recording to collect from that is none': (
    'collect',
    ('--output={tmp}/data', '--replay=README.md'),
    ['README.md is no recording'],
  ),
  'a setting that a recording has': (
    'collect',
    ('--output={tmp}/data', '--replay=x', '--config.search.depth=3'),
    ['--config.search.depth', 'replay.*'],
  ),
  'a part of no recording to collect': (
    'collect',
    ('--output={tmp}/data', '--config.replay.steps_per_checkpoint=3'),
    ['--config.replay.steps_per_checkpoint goes with --replay'],
  ),
  'planner settings without the planner': (
    'evaluate',
    (
      '--games=Assault',
      '--checkpoint=x',
      '--width=4',
      '--output={tmp}/x.jsonl',
    ),
    ['--planner=beam'],
  ),
  'settings of another planner': (
    'evaluate',
    (
      '--games=Assault',
      '--checkpoint=x',
      '--planner=beam',
      '--num_simulations=4',
      '--output={tmp}/x.jsonl',
    ),
    ['--num_simulations', '--planner=mcts'],
  ),
  'no Minari data sets': (
    'prepare_data',
    (
      *('--source=minari', '--input={tmp}/none', '--games=Pong'),
      '--output={tmp}/data',
    ),
    ['{tmp}/none', 'is no directory', 'minari download'],
  ),
  'data to export that are not there': (
    'export_data',
    ('--format=minari', '--data={tmp}/none', '--output={tmp}/minari'),
    ['--data={tmp}/none'],
  ),
  'an export in no known format': (
    'export_data',
    ('--format=zarr', '--data={tmp}/none', '--output={tmp}/minari'),
    ['--format=zarr', 'minari'],
  ),
}
