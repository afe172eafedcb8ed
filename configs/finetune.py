"""One new game from few transitions: `finetune.py:40m|70m|150m`, and others.

`quickstart` is for agents of `configs/small.py` and for the one that the
package ships, and trains the tokenizer, too; `smoke` is for tests; `mtbc_`
before a size fine-tunes the baseline, and so do `mgdt_` and `edt_` before
`40m|200m|smoke|quickstart`, `ficc_` before `85m|smoke|quickstart`, and
`scaled_ql_` before `resnet34|resnet50|resnet101|smoke|quickstart`.
The values are those of the paper's appendix E.2; `launch.finetune` fills in
the game, data and checkpoint.
"""

from ml_collections import ConfigDict

from configs import common, edt, ficc, jowa, mgdt, mtbc, scaled_ql, small

_SIZES = ('40m', '70m', '150m', 'smoke', 'quickstart')
# Those that read pixels: they have no tokenizer.
_OF_FRAMES = {'mgdt': mgdt, 'edt': edt, 'scaled_ql': scaled_ql}
NAMES = (
  *_SIZES,
  *(f'mtbc_{size}' for size in _SIZES),
  *(
    f'{name}_{size}'
    for name, module in _OF_FRAMES.items()
    for size in module.SIZES
  ),
  *(f'ficc_{size}' for size in ficc.SIZES),
)
_PARTS = {'jowa': 'world_action', 'mtbc': 'policy'}


def _pretraining(method: str, size: str) -> ConfigDict:
  """The config that the agent was pretrained with."""
  if method == 'ficc':
    return ficc.get_config(size).unlock()
  if method in _OF_FRAMES:
    return _OF_FRAMES[method].get_config(size).unlock()
  if size == 'quickstart':
    config = small.get_config(method).unlock()
    # The tokenizer of both is trained as JOWA's.
    config.tokenizer_training = small.get_config('jowa').tokenizer_training
    return config
  return {'jowa': jowa, 'mtbc': mtbc}[method].get_config(size).unlock()


def _data(config: ConfigDict, size: str) -> None:
  config.data.games = ()  # filled in
  config.data.stride = 1
  # The paper's benchmark is 'expert'; --quality sets it.
  config.data.quality = {'smoke': None, 'quickstart': None}.get(size, 'expert')
  config.data.transitions = 100 if size == 'smoke' else 5000
  config.data.held_out_fraction = 0.0
  config.data.balance_games = False


def _run(config: ConfigDict, size: str) -> None:
  run = config.run
  run.evaluate_every = 0
  run.log_every = {'smoke': 2, 'quickstart': 20}.get(size, 100)
  run.save_every = {'smoke': 4, 'quickstart': 100}.get(size, 2500)
  # Greedy play, as in the released program, where checkpoints are saved: the
  # best one is kept.
  run.play_every = run.save_every
  run.play_episodes = {'smoke': 1, 'quickstart': 2}.get(size, 4)
  run.play_max_frames = {'smoke': 80, 'quickstart': 3000}.get(size, 18_000)
  run.best_metric = ''  # filled in: the game's score
  run.best_mode = 'max'
  run.batch_size = 4 if size == 'smoke' else 32


def _steps(size: str) -> int:
  return {'smoke': 8, 'quickstart': 300}.get(size, 50_000)


def _scratch_steps(size: str) -> int:
  return {'smoke': 8, 'quickstart': 1500}.get(size, 500_000)


def _stage_of_frames(config: ConfigDict, size: str) -> None:
  # The optimizer of pretraining, afresh and at its rate from the first step.
  (part,) = config.stages.order
  optimizer = config.stages[part][part]
  few = size in ('smoke', 'quickstart')
  optimizer.learning_rate = 5e-4 if few else 5e-5
  optimizer.warmup_steps = 0
  optimizer.warmup_from = 0.0
  optimizer.decay, optimizer.final_fraction = 'constant', 0.0
  config.stages = common.stages(
    finetune=common.stage(_steps(size), **{part: optimizer})
  )
  config.finetune = ConfigDict(
    dict(
      # Sizes are this config's, or the checkpoint's if there is one:
      # 'checkpoint'.
      model='checkpoint' if size == 'quickstart' else 'config',
      # Without a checkpoint, in place of the stage's steps.
      scratch=dict(steps=_scratch_steps(size)),
    )
  )


def _stage(config: ConfigDict, size: str) -> None:
  part = _PARTS[config.method]
  few = size in ('smoke', 'quickstart')
  # With half of the quickstart's, a new backbone's world model does not get far
  # in so few steps (launch/results).
  rate = {'quickstart': 1e-3, 'smoke': 5e-4}.get(size, 5e-5)
  steps = _steps(size)
  config.stages = common.stages(
    finetune=common.stage(steps, **{part: common.optimizer(rate, 0.01)})
  )
  if config.method == 'jowa':
    config.losses.world_weight = 0.5
    # From `imagination.start_step` on; dreaming takes long on a CPU.
    config.imagination.policy = '' if few else 'planning'
  training = config.tokenizer_training
  training.frames_per_step = 16 if few else 128
  config.finetune = ConfigDict(
    dict(
      # Sizes and returns are this config's, or the checkpoint's if there is
      # one: 'checkpoint'.
      model='checkpoint' if size == 'quickstart' else 'config',
      # The released program goes on training the tokenizer; the paper does not.
      train_tokenizer=False,
      tokenizer=common.optimizer(5e-4 if few else 1e-4, 0.0),
      # Where it is trained: of a stage of its own before the rest; 0 beside it.
      tokenizer_steps=0,
      without=dict(),
      # Without a checkpoint the tokenizer is trained, with its recipe of
      # pretraining, for this many steps in place of the stage's.
      scratch=dict(
        steps=_scratch_steps(size),
        tokenizer_training=dict(
          codebook_init_step=training.codebook_init_step,
          restart_period=training.restart_period,
          restart_until=training.restart_until,
          embed_codes=training.embed_codes,
        ),
      ),
    )
  )
  # The codes of a pretrained tokenizer are in use.
  training.codebook_init_step = 0
  training.restart_period = 0
  training.restart_until = 0
  # The pretrained backbone knows them.
  training.embed_codes = 0.0


def train_tokenizer_first(
  config: ConfigDict, tokenizer: int, rest: int
) -> None:
  """Trains the tokenizer for some steps of its own, and then the rest.

  The paper's tokenizer knows fifteen games and stays as it is; four say little
  of a fifth's sprites.

  Args:
    config: of fine-tuning JOWA or MTBC, of few steps; gets it.
    tokenizer: steps of the tokenizer.
    rest: steps of everything else, with a checkpoint or without.
  """
  training = config.tokenizer_training
  # Codes that the new game does not use become its own.
  training.restart_at_errors = True
  training.restart_period = max(2, tokenizer // 4)
  training.restart_until = int(0.8 * tokenizer)
  config.finetune.train_tokenizer = True
  config.finetune.tokenizer_steps = tokenizer
  config.finetune.tokenizer = common.optimizer(2e-3, 0.0, 0, 'cosine', 0.05)
  stage = config.stages.finetune
  stage.steps = config.finetune.scratch.steps = rest
  for part in stage.parts:
    stage[part].decay, stage[part].final_fraction = 'cosine', 0.05
  scratch = config.finetune.scratch.tokenizer_training
  # A new backbone knows the codes no better than one from scratch.
  codes = dict(tokenizer_training=dict(embed_codes=scratch.embed_codes))
  config.finetune.without = ConfigDict(dict(backbone=codes))
  scratch.restart_until = training.restart_until


def get_config(name: str = '150m') -> ConfigDict:
  """The config of fine-tuning one size of a method.

  Raises:
    ValueError: there is no such size or method.
  """
  if name not in NAMES:
    raise ValueError(f'Unknown name {name!r}; there are {NAMES}')
  method, _, size = name.rpartition('_')
  config = _pretraining(method or 'jowa', size)
  _data(config, size)
  _run(config, size)
  config.init_from.params = ()  # everything
  if config.method == 'ficc':
    # It has no backbone that could be adapted.
    ficc.to_finetune(config, size, _steps(size), _scratch_steps(size))
    return config.lock()
  if config.method in _OF_FRAMES:
    _stage_of_frames(config, size)
  else:
    _stage(config, size)
    # As in the released program: the game's embedding starts as the related
    # game's.
    config.init_from.task_row = 'related'
    if size == 'quickstart':
      config.run.batch_size = 16
      config.tokenizer_training.frames_per_step = 32
      train_tokenizer_first(config, 200, 600)
  if config.method == 'scaled_ql':
    # Section E.1.5, too: the game's head is new. Augmentation's sizes are ours.
    config.init_from.task_row = 'new'
    config.augmentation.crop, config.augmentation.rotation = 4, 5.0
  else:
    config.adaptation = _adaptation()
  return config.lock()


def _adaptation() -> ConfigDict:
  return ConfigDict(
    dict(
      mode='full',  # or 'heads' alone, or these and low-rank adapters: 'lora'
      rank=8,
      alpha=16.0,  # alpha / rank scales the adapters
      targets=('query', 'key', 'value', 'proj'),
    )
  )
