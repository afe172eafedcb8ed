"""How long a training step takes, how much it computes and what it holds."""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jowa_jax import devices, games
from jowa_jax.bench import models, plain_resnet
from jowa_jax.checkpoint import shapes
from jowa_jax.methods.base import BatchSpec, Method
from jowa_jax.methods.factory import make_method, method_config
from jowa_jax.methods.imagination import Imagination
from jowa_jax.methods.jowa import JowaConfig, make_jowa
from jowa_jax.methods.jowa_losses import JowaLosses
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models.resnet import ResNetConfig
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.train import sharding, state, step
from jowa_jax.train.optimizer import OptimizerConfig
from jowa_jax.train.state import Stage
from jowa_jax.types import FRAME_SHAPE, Segment

# The stages of JOWA (Table 13).
STAGES = {
  'stage1': Stage(
    'stage1',
    1,
    {
      'tokenizer': OptimizerConfig(learning_rate=1e-4),
      'world': OptimizerConfig(learning_rate=1e-4, weight_decay=0.01),
    },
  ),
  'stage2': Stage(
    'stage2',
    1,
    {'world_action': OptimizerConfig(learning_rate=5e-5, weight_decay=0.01)},
  ),
}


def jowa(
  size: str, dtype: str, imagination: str = '', **changes: Any
) -> tuple[Method, WorldActionConfig]:
  """JOWA of a published size.

  Args:
    size: a name in `SIZES`.
    dtype: of the computation.
    imagination: policy of the dreams that half of a batch goes on in.
    **changes: of the backbone's config.
  """
  tokenizer, model = models.configs(size, dtype, **changes)
  config = JowaConfig(
    tokenizer=tokenizer,
    backbone=model.backbone,
    heads=model.heads,
    returns=model.returns,
    losses=JowaLosses(),
    tokenizer_training=TokenizerTraining(),
    imagination=Imagination(policy=imagination, start_step=0),
  )
  return make_jowa(config), model


def batch(
  method: Method, batch_size: int, tokens: bool = False, seed: int = 0
) -> Segment:
  """Segments of noise, of a method's `BatchSpec`.

  Args:
    method: which has a tokenizer if its tokens are wanted.
    batch_size: segments.
    tokens: whether the frames are encoded already.
    seed: of the noise.
  """
  rng = np.random.default_rng(seed)
  spec = method.spec
  shape = (batch_size, spec.history + spec.length + spec.lookahead)
  frames = encoded = train = None
  if tokens:
    variables = shapes.variable_shapes(method)
    frame = jax.ShapeDtypeStruct(FRAME_SHAPE, np.uint8)
    one = jax.eval_shape(method.tokenizer.encode, variables, frame)
    size = (*shape, *one.shape)
    encoded = rng.integers(0, method.tokenizer.vocab_size, size, np.uint16)
  else:
    frames = rng.integers(0, 256, (*shape, *FRAME_SHAPE), np.uint8)
  if spec.history or spec.lookahead:
    train = np.zeros(shape, bool)
    train[:, spec.history : spec.history + spec.length] = True
  return Segment(
    observations=frames,
    tokens=encoded,
    actions=rng.integers(0, games.NUM_ACTIONS, shape).astype(np.int32),
    rewards=rng.integers(-1, 2, shape).astype(np.float32),
    ends=np.zeros(shape, bool),
    mask=np.ones(shape, bool),
    train=train,
    task=np.zeros(batch_size, np.int32),
    return_to_go=(
      rng.integers(0, 9, shape).astype(np.float32)
      if 'return_to_go' in spec.fields
      else None
    ),
    episode_id=_counted(spec, 'episode_id', batch_size),
    t=_counted(spec, 't', batch_size),
  )


def _counted(spec: BatchSpec, field: str, count: int) -> np.ndarray | None:
  return np.arange(count, dtype=np.int32) if field in spec.fields else None


def measure(
  sizes: Sequence[str],
  batch_sizes: Sequence[int],
  stage: str = 'stage2',
  dtypes: Sequence[str] = ('float32',),
  tokens: bool = False,
  seconds: float = 5.0,
  imagination: str = '',
  **changes: Any,
) -> list[dict[str, Any]]:
  """A record for every size, batch size and dtype.

  With imagination there are two: without it, and with it, which says in
  `dream_ratio` how long dreaming takes beside the step without.

  Args:
    sizes: names in `SIZES`.
    batch_sizes: segments of a step, over all devices.
    stage: 'stage1' or 'stage2'.
    dtypes: of the computation.
    tokens: whether frames are encoded already; of stage 2.
    seconds: how long each is measured, at least.
    imagination: see `jowa`.
    **changes: of the backbone's config.

  Raises:
    ValueError: a size, a stage or a number is none.
  """
  if stage not in STAGES or ((tokens or imagination) and stage == 'stage1'):
    raise ValueError(
      f'stage={stage!r} must be in {list(STAGES)}, and stage1 trains the '
      'tokenizer on frames, not on tokens, and imagines nothing'
    )
  devices = len(jax.devices())
  for count in batch_sizes:
    if count < 1 or count % devices:
      raise ValueError(
        f'batch_size={count} must be positive and divide over the {devices} '
        'devices'
      )
  if seconds <= 0:
    raise ValueError(f'seconds={seconds} must be above 0')
  records = []
  for size, dtype, count in itertools.product(sizes, dtypes, batch_sizes):
    names = {'size': size, 'dtype': dtype, **changes}

    def one(imagination, size=size, dtype=dtype, count=count, names=names):
      method, _ = jowa(size, dtype, imagination, **changes)
      rows = batch(method, count, tokens)
      return _measure(method, STAGES[stage], rows, seconds) | names

    plain = one('')
    records.append(plain)
    if imagination:
      imagined = one(imagination) | {'imagination': imagination}
      ratio = imagined['step_seconds'] / plain['step_seconds'] - 1
      records.append({**imagined, 'dream_ratio': ratio})
  return records


def run_config(
  config: Mapping[str, Any],
  seconds: float = 5.0,
  batch_size: int | None = None,
) -> list[dict[str, Any]]:
  """A record for every stage of any method's config, on frames.

  That of a method whose encoder is a ResNet has a plain one of the same size
  beside it, see `plain_resnet`, on one device: `flops_ratio`, as the compiler
  counts, and `seconds_ratio` are the step's over the plain one's.

  Args:
    config: a resolved training config.
    seconds: how long each is measured, at least.
    batch_size: segments; the config's if None.

  Raises:
    ConfigError: the config is not one.
  """
  # Not above: it reads data sets, and random weights are timed without.
  from jowa_jax.train.settings import parse_stages

  method = make_method(config)
  batch_size = batch_size or config['run']['batch_size']
  rows = batch(method, batch_size)
  records = [
    _measure(method, stage, rows, seconds) | {'size': config['method']}
    for stage in parse_stages(config['stages'])
  ]
  encoder = getattr(method_config(config), 'encoder', None)
  if isinstance(encoder, ResNetConfig) and jax.device_count() == 1:
    states = batch_size * method.spec.length
    plain = plain_resnet.measure(encoder, states, seconds)
    for record in records:
      record |= plain | {
        'flops_ratio': record['compiled_flops'] / plain['plain_flops'],
        'seconds_ratio': record['step_seconds'] / plain['plain_seconds'],
      }
  return records


def _measure(
  method: Method, stage: Stage, rows: Segment, seconds: float
) -> dict[str, Any]:
  """How long a step of a stage takes, and what it computes and holds."""
  mesh = sharding.make_mesh({'data': -1})
  variables = models.random_variables_of(method)
  place = jax.tree.map(lambda _: sharding.replicated(mesh), variables)
  variables = jax.device_put(variables, place)
  train_state, places = state.begin_stage(
    method, stage, 0, variables, place, mesh
  )
  frames = 'tokens' if rows.observations is None else 'pixels'
  batch_size = len(rows.task)
  rows = jax.device_put(rows, sharding.batch_sharding(mesh))
  begun = time.perf_counter()
  compiled = (
    step.compile_step(method, stage, 0, 0, mesh, places)
    .lower(train_state, rows)
    .compile()
  )
  compile_seconds = time.perf_counter() - begun
  del variables

  metrics = {}

  def take():
    nonlocal train_state
    nonlocal metrics
    train_state, metrics = compiled(train_state, rows)
    return metrics

  step_seconds = models.seconds_per_call(take, seconds)
  needed = batch_size * state.stage_flops(method, stage)
  peak = devices.peak()
  counted = devices.cost(compiled)
  count = len(jax.devices())
  mfu = None
  if peak and method.dtype == 'bfloat16':
    mfu = needed / step_seconds / (peak.flops * count)
  return {
    'stage': stage.name,
    'batch_size': batch_size,
    'dtype': method.dtype,
    'frames': frames,
    'device': jax.devices()[0].device_kind,
    'devices': count,
    'step_seconds': step_seconds,
    'tokens_per_second': batch_size * method.tokens / step_seconds,
    'mfu': mfu,
    'model_flops': needed,
    'compiled_flops': counted['flops'] * count,
    'flops_per_second': needed / step_seconds,
    'peak_bytes': models.peak_bytes(compiled),
    'compile_seconds': compile_seconds,
    'imagination': None,
    'dream_passes': float(metrics.get('imagination/passes', 0)) or None,
    'dream_ratio': None,
  }


_COLUMNS = (
  ('size', '{}', 6),
  ('stage', '{}', 7),
  ('batch_size', '{}', 6),
  ('dtype', '{}', 9),
  ('frames', '{}', 7),
  ('step_seconds', '{:.4f}', 9),
  ('tokens_per_second', '{:.0f}', 9),
  ('mfu', '{:.3f}', 6),
  ('model_flops', '{:.2e}', 9),
  ('compiled_flops', '{:.2e}', 9),
  ('peak_bytes', '{:.2e}', 9),
  ('compile_seconds', '{:.1f}', 8),
  ('imagination', '{}', 14),
  ('dream_passes', '{:.0f}', 6),
  ('dream_ratio', '{:.2f}', 6),
)
_HEADS = (
  'size stage batch dtype frames seconds tokens/s mfu flops compiled bytes '
  'compile dreams passes ratio'
).split()


def describe(records: Sequence[dict[str, Any]]) -> str:
  """A table; flops are by formula, and as the compiler counts."""
  lines = [models.table(_HEADS, _COLUMNS, records)]
  for record in records:
    if 'plain_seconds' in record:
      lines.append(
        f'{record["stage"]} beside a plain ResNet of '
        f'{record["plain_params"]:,} parameters on as many states: '
        f'{record["flops_ratio"]:.2f} times its operations, '
        f'{record["seconds_ratio"]:.2f} times its '
        f'{record["plain_seconds"]:.4f} s'
      )
  return '\n'.join(lines)
