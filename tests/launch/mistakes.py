"""What users mistype: script, flags, and what the error must say."""

from tests.launch.mistakes_of_play import CASES as OF_PLAY

TRAIN = ('--config=configs/jowa.py:smoke', '--workdir={tmp}/run')
FINETUNE = (
  '--config=configs/finetune.py:smoke',
  '--workdir={tmp}/run',
  '--data={tmp}/data',
)
SCRATCH = ('--config=configs/quickstart.py:scratch', '--workdir={tmp}/q')
CASES = OF_PLAY | {
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
  'nothing to pack': (
    'pack',
    ('--checkpoint={tmp}/none', '--output={tmp}/agent.safetensors'),
    ['{tmp}/none', 'does not exist'],
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
  'a stray argument': (
    'quickstart',
    ('--workdir={tmp}/q', 'smoke'),
    ['smoke', '--name=x'],
  ),
}
