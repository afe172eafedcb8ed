"""What users mistype: script, flags, and what the error must say."""

TRAIN = ('--config=configs/jowa.py:smoke', '--workdir={tmp}/run')
FINETUNE = (
  '--config=configs/finetune.py:smoke',
  '--workdir={tmp}/run',
  '--data={tmp}/data',
)
SCRATCH = ('--config=configs/quickstart.py:scratch', '--workdir={tmp}/q')
CASES = {
  'unknown study': (
    'study',
    ('--config=configs/study.py:night', '--output={tmp}/s'),
    ["'night'", 'laptop'],
  ),
  'unknown cell': (
    'study',
    (
      *('--config=configs/study.py:smoke', '--output={tmp}/s'),
      '--cells=jowa_s7',
    ),
    ['--cells=jowa_s7', 'jowa_s1'],
  ),
  'a field of a cell that its command has not': (
    'study',
    (
      *('--config=configs/study.py:smoke', '--output={tmp}/s'),
      '--config.cells.jowa_s1.commands.train.flags.config=configs/ficc.py:5b',
    ),
    ['cells.jowa_s1.commands.train.flags.config', "'5b'"],
  ),
  'the best of no run': (
    'evaluate',
    ('--games=Assault', '--best', '--output={tmp}/x.jsonl'),
    ['--best', '--checkpoint'],
  ),
  'unknown config field': (
    'train',
    (*TRAIN, '--config.backbone.widht=4'),
    ['--config.backbone.widht=4', 'no such field'],
  ),
  'wrong type': (
    'train',
    (*TRAIN, '--config.run.batch_size=many'),
    ['batch_size', 'many'],
  ),
  'unknown size': (
    'train',
    ('--config=configs/jowa.py:41m', '--workdir={tmp}/run'),
    ["'41m'", '40m'],
  ),
  'no data set given': ('train', TRAIN, ['data.directory', 'launch.collect']),
  'missing data set': (
    'train',
    (*TRAIN, '--config.data.directory={tmp}/none'),
    ['{tmp}/none'],
  ),
  'missing flag': ('train', TRAIN[:1], ['--workdir']),
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
  'nothing to pack': (
    'pack',
    ('--checkpoint={tmp}/none', '--output={tmp}/agent.safetensors'),
    ['{tmp}/none', 'does not exist'],
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
  'unknown game to start with': (
    'quickstart',
    (*SCRATCH, '--config.games=Tetris'),
    ['Tetris'],
  ),
  'play that is not recorded': (
    'quickstart',
    (*SCRATCH, '--config.games=Zaxxon'),
    ['data.play: Zaxxon is not recorded'],
  ),
  'a pretrained agent that is not there': (
    'quickstart',
    (
      '--workdir={tmp}/q',
      '--config=configs/quickstart.py:full',
      '--config.pretrained.shipped={tmp}/a.safetensors',
    ),
    ['{tmp}/a.safetensors', 'does not exist'],
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
  'half a coordinator': (
    'train',
    (
      '--config=configs/jowa.py:smoke',
      '--workdir={tmp}/run',
      '--num_processes=2',
    ),
    ['--coordinator_address', '--process_id', 'together'],
  ),
  'a coordinator that is not wanted': (
    'train',
    (
      '--config=configs/jowa.py:smoke',
      '--workdir={tmp}/run',
      '--distributed=never',
      '--coordinator_address=localhost:1',
      '--num_processes=2',
      '--process_id=0',
    ),
    ['--distributed=never'],
  ),
  'steps to trace that are none': (
    'train',
    (
      '--config=configs/jowa.py:smoke',
      '--workdir={tmp}/run',
      '--profile_steps=5',
    ),
    ['--profile_steps=5', 'first:last'],
  ),
  'fine-tuning on no game': (
    'finetune',
    (*FINETUNE, '--game=pong'),
    ["did you mean 'Pong'"],
  ),
  'fine-tuning of nothing': (
    'finetune',
    (*FINETUNE, '--game=Pong', '--checkpoint={tmp}/none'),
    ['{tmp}/none', 'does not exist'],
  ),
  'fine-tuning in no mode': (
    'finetune',
    (*FINETUNE, '--game=Pong', '--config.adaptation.mode=lorra'),
    ["mode='lorra'", 'heads', 'lora'],
  ),
  'fine-tuning from no related game': (
    'finetune',
    (
      *FINETUNE,
      '--game=Pong',
      '--checkpoint={tmp}/none',
      '--config.init_from.task_row=Pongg',
    ),
    ["task_row='Pongg'", 'related', 'new'],
  ),
  'a mesh that is none': (
    'benchmark',
    ('--suite=scale', '--mesh=data=2,model=2'),
    ['--mesh=model=2', 'fsdp'],
  ),
  'a benchmark of no game': (
    'benchmark',
    ('--suite=plan', '--size=smoke', '--checkpoint=x'),
    ['--checkpoint goes with --games'],
  ),
  'a benchmark too far ahead': (
    'benchmark',
    ('--suite=plan', '--size=smoke', '--horizon=8'),
    ['horizon=8', '0..7'],
  ),
  'a benchmark of no beams': (
    'benchmark',
    ('--suite=plan', '--size=smoke', '--width=0'),
    ['width=0 must be at least 1'],
  ),
  'a benchmark of no environments': (
    'benchmark',
    ('--suite=plan', '--size=smoke', '--environments=0'),
    ['environments=[0]'],
  ),
  'weights that are not there': (
    'import_checkpoint',
    (
      '--tokenizer={tmp}/tokenizer.pt',
      '--model={tmp}/JOWA_150M.pt',
      '--output={tmp}/run',
    ),
    ['{tmp}/tokenizer.pt', 'no such file'],
  ),
  'half of the weights': (
    'import_checkpoint',
    ('--tokenizer={tmp}/tokenizer.pt', '--output={tmp}/run'),
    ['--model'],
  ),
  'weights in no known kind of file': (
    'import_checkpoint',
    ('--tokenizer=README.md', '--model=README.md', '--output={tmp}/run'),
    ['README.md', '.safetensors', "'.md'"],
  ),
  'weights of something else': (
    'import_checkpoint',
    (
      '--tokenizer=tests/data/parity/imagination.npz',
      '--model={tmp}/JOWA_150M.pt',
      '--output={tmp}/run',
    ),
    ['imagination.npz', 'holds no released tokenizer', 'encoder.'],
  ),
  'an import onto what is there': (
    'import_checkpoint',
    ('--tokenizer=x.pt', '--model=y.pt', '--output=tests'),
    ['tests: is there already'],
  ),
  'no heads of attention': (
    'import_checkpoint',
    (
      '--tokenizer=x.pt',
      '--model=y.pt',
      '--output={tmp}/run',
      '--num_heads=many',
    ),
    ['--num_heads', 'many'],
  ),
  'a tokenizer where there is none': (
    'import_checkpoint',
    (
      *('--method=mgdt', '--tokenizer=x.pt', '--model=y.pkl'),
      '--output={tmp}/run',
    ),
    ['--tokenizer goes with --method=jowa'],
  ),
  'a pickle that is not there': (
    'import_checkpoint',
    ('--method=mgdt', '--model={tmp}/m.pkl', '--output={tmp}/run'),
    ['{tmp}/m.pkl', 'no such file'],
  ),
  'nothing to export': (
    'export_checkpoint',
    (
      '--checkpoint={tmp}/none',
      '--output_tokenizer={tmp}/t.npz',
      '--output_model={tmp}/m.npz',
    ),
    ['{tmp}/none', 'does not exist'],
  ),
  'an export to nowhere': (
    'export_checkpoint',
    ('--checkpoint={tmp}/none', '--output_model={tmp}/m.npz'),
    ['--output_tokenizer'],
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
  'a stray argument': (
    'quickstart',
    ('--workdir={tmp}/q', 'smoke'),
    ['smoke', '--name=x'],
  ),
}
