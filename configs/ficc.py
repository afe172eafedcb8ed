"""FICC baseline: latent actions from watching, then Q-values.

`ficc.py:85m` is the paper's size, `:quickstart` for two cores, `:smoke` for
tests; with `_watching` they are the first stage alone, for films without
actions. What the paper leaves open is ours; see the README.
"""

from ml_collections import ConfigDict

from configs import common

SIZES = ('85m', 'quickstart', 'smoke')
# Of the stages: watching, the map of actions, Q.
_STEPS = {
  '85m': (500_000, 2_000, 1_250_000),
  'quickstart': (3000, 100, 4000),
  'smoke': (8, 4, 8),
}


def _network(size: str) -> ConfigDict:
  few = size != '85m'
  projection = {'quickstart': 128, 'smoke': 16}.get(size, 512)
  return ConfigDict(
    dict(
      channels={'quickstart': 32, 'smoke': 8}.get(size, 640),
      num_blocks=1,  # at the encoder's end
      bottleneck=not few,
      num_codes=20,  # latent actions
      code_size=5,
      projection_width=projection,
      projection_outputs=projection,
      predictor_width=projection // 2,
      decoder_channels=8 if size == 'quickstart' else 0,  # 0: as the state
      head_width={'quickstart': 256, 'smoke': 16}.get(size, 512),
      remat=not few,  # decoders' activations are most of the memory
      dtype='float32' if few else 'bfloat16',
    )
  )


def _returns(size: str) -> ConfigDict:
  quickstart = size == 'quickstart'
  return ConfigDict(
    dict(
      num_atoms=51,
      v_min=-5.0 if quickstart else -10.0,
      v_max=10.0 if quickstart else 30.0,
      gamma=0.95 if quickstart else 0.99,
    )
  )


def _losses(size: str) -> ConfigDict:
  quickstart = size == 'quickstart'
  return ConfigDict(
    dict(
      steps=3 if size == 'smoke' else 6,  # of a window
      l1_weight=0.01,
      masked_l1=True,
      commitment=1.0,
      finest_only=False,
      shift=4,  # pixels
      intensity=0.05,
      shared_shift=False,
      world_weight=0.0,  # of the loss of watching beside that of Q
      cql_weight=1.0 if quickstart else 0.1,
      backup='data' if quickstart else 'max',
      target_period=10 if quickstart else 1000,
    )
  )


def _watching(size: str, steps: int) -> ConfigDict:
  """The authors' SGD, stretched over the stage: up for its first 8 %."""
  optimizer = common.optimizer(0.02, 0.01, max(2 * steps // 25, 1))
  optimizer.kind, optimizer.b1 = 'sgd', 0.9
  optimizer.decay_mask = 'all'
  optimizer.clip, optimizer.clip_each = 10.0, True
  optimizer.warmup, optimizer.warmup_from = 'exponential', 5e-4
  optimizer.decay, optimizer.final_fraction = 'exponential', 0.01
  if size == 'quickstart':
    # SGD would take far more steps.
    optimizer.kind, optimizer.learning_rate = 'adamw', 1e-3
    optimizer.decay_mask = 'kernels'
  return optimizer


def get_config(size: str = '85m') -> ConfigDict:
  """The training config of one size.

  Raises:
    ValueError: there is no such size.
  """
  name, size = size, size.removesuffix('_watching')
  if size not in SIZES:
    raise ValueError(
      f'Unknown size {name!r}; there are {SIZES}, and with _watching'
    )
  config = common.trainer('ficc', size == 'smoke')
  config.data.stride = 1
  config.network = _network(size)
  config.returns = _returns(size)
  config.losses = _losses(size)
  # Of what Q is learned from, in fine-tuning.
  config.augmentation = ConfigDict(dict(crop=0, rotation=0.0))
  if size == 'quickstart':
    common.of_quickstart(config, batch_size=8)
    config.run.evaluate_every = 100
  watching, mapping, q = _STEPS[size]
  stages = dict(
    watching=common.stage(watching, watching=_watching(size, watching))
  )
  if name == size:
    rate = common.optimizer(5e-5 if size == '85m' else 1e-3, 0.01)
    stages |= dict(
      action_map=common.stage(mapping, action_map=common.optimizer(1e-3, 0.0)),
      q=common.stage(q, q=rate),
    )
  config.stages = common.stages(**stages)
  return config.lock()


def to_finetune(
  config: ConfigDict, size: str, steps: int, scratch_steps: int
) -> None:
  """Replaces the stages by one of Q on a new game (appendix E.2)."""
  few = size != '85m'
  rate = common.optimizer(5e-4 if few else 5e-5, 0.01)
  config.stages = common.stages(finetune=common.stage(steps, q=rate))
  config.augmentation.crop = 4
  config.augmentation.rotation = 5.0
  config.finetune = ConfigDict(
    dict(
      # Sizes are this config's, or the checkpoint's if there is one:
      # 'checkpoint'.
      model='checkpoint' if size == 'quickstart' else 'config',
      # Without a checkpoint, in place of the stage's steps.
      scratch=dict(steps=scratch_steps),
    )
  )
