"""Measures speed and memory, side by side in one run.

python -m launch.benchmark --suite=data [--json=data.json]
python -m launch.benchmark --suite=plan --size=150m [--json=plan.json]
python -m launch.benchmark --suite=plan --run=configs/mgdt.py:40m
python -m launch.benchmark --suite=eval --size=40m --environments=8
python -m launch.benchmark --suite=train --size=40m,150m --batch_size=4
python -m launch.benchmark --suite=train --run=runs/mtbc
python -m launch.benchmark --suite=scale --mesh=data=8,fsdp=32 --batch_size=512
python -m launch.benchmark --suite=scale --run=configs/mgdt.py:200m
python -m launch.benchmark --suite=play [--checkpoint=runs/jowa] [--seconds=600]

`plan` times decisions with random weights, of JOWA's sizes by stage, or of any
method's config; with --checkpoint it also plays real games, for how many passes
the trained model's dreams take. `eval` plays real games, many environments at
once and one by one. `train` times steps on noise. `scale` compiles a step for
virtual devices, up to hundreds of them, and predicts from --peak_flops and
--link_bandwidth. `play` serves pages of `launch.play` and steps dreamed
environments.
"""

import json
import math
import os

from absl import flags

from jowa_jax import files
from launch import common

_SUITE = flags.DEFINE_enum(
  'suite',
  None,
  ['data', 'plan', 'eval', 'train', 'scale', 'play'],
  'What is measured.',
)
_JSON = common.define_path('json', None, 'A JSON file for the figures.')
_SECONDS = flags.DEFINE_float('seconds', None, 'Of each rate, at least.')

_STEPS = flags.DEFINE_integer('steps', 20_000, 'data: played of each game.')
_LOG_ROWS = flags.DEFINE_integer(
  'log_rows', 20_000, 'data: of the raw log; real ones have 1,000,000.'
)

_SIZE = flags.DEFINE_list(
  'size', '150m', 'All but data: of the model, or of several.'
)
_ENVIRONMENTS = flags.DEFINE_list(
  'environments', '1,16', 'plan, play: how many; eval: of each game.'
)
_WIDTH = flags.DEFINE_integer('width', None, 'plan: beams kept; else several.')
_HORIZON = flags.DEFINE_integer(
  'horizon', None, 'plan: steps dreamed ahead; else several.'
)
_PASSES = flags.DEFINE_integer(
  'passes',
  3,
  'plan, eval: of all tokens, for frames dreamed with random weights.',
)
_SCHEDULE = flags.DEFINE_list(
  'schedule',
  None,
  'plan: instead of --passes, what share of the tokens each of them runs; '
  '--checkpoint measures it.',
)
_CHECKPOINT = common.define_path(
  'checkpoint', None, 'plan, eval, play: of a JOWA run, or packed.'
)
_GAMES = flags.DEFINE_string(
  'games', None, 'plan, eval, play: of the checkpoint.'
)
_DECISIONS = flags.DEFINE_integer(
  'decisions', 500, 'plan: of every game; eval: of every rollout.'
)


_BATCH_SIZE = flags.DEFINE_list(
  'batch_size',
  '4',
  "train, scale: segments over all devices, or several; of --run the config's.",
)
_RUN = common.define_path(
  'run',
  None,
  'plan, train, scale: of a run of any method, or of a config such as '
  'configs/mgdt.py:200m, not --size; all of its stages.',
)
_STAGE = flags.DEFINE_enum(
  'stage', 'stage2', ['stage1', 'stage2'], 'train, scale: of training.'
)
_DTYPE = flags.DEFINE_list(
  'dtype', None, 'train, scale: of the computation, or several.'
)
_TOKENS = flags.DEFINE_bool(
  'tokens', False, 'train, scale: frames are encoded already (stage2).'
)
_FUSED = flags.DEFINE_bool(
  'fused_attention', False, 'train, scale: without dropout of attention.'
)
_REMAT = flags.DEFINE_bool('remat', False, 'train, scale: of the layers.')
_IMAGINATION = flags.DEFINE_enum(
  'imagination',
  '',
  ['', 'planning', 'epsilon_greedy'],
  'train: measure also steps in which half of the batch is imagined (stage2).',
)
_MESH = flags.DEFINE_list(
  'mesh', 'data=8,fsdp=1,tensor=1', 'scale: devices by axis.'
)
_PEAK_FLOPS = flags.DEFINE_float(
  'peak_flops', 4e14, 'scale: operations a second that a device reaches.'
)
_LINK_BANDWIDTH = flags.DEFINE_float(
  'link_bandwidth', 2e11, 'scale: bytes a second between devices.'
)


def _data() -> dict[str, dict]:
  with common.importing():
    from jowa_jax.bench import data

  seconds = 5.0 if _SECONDS.value is None else _SECONDS.value
  results = data.measure(_STEPS.value, _LOG_ROWS.value, seconds=seconds)
  print(data.describe(results))
  return results


def _plan() -> list[dict]:
  with common.importing():
    from jowa_jax import games
    from jowa_jax.bench import decisions, passes, plan

  seconds = 3.0 if _SECONDS.value is None else _SECONDS.value
  if _RUN.value is not None:
    config = _config_of(_RUN.value)
    results = decisions.run_config(config, _numbers(_ENVIRONMENTS), seconds)
    print(decisions.describe(results))
    return results
  if bool(_CHECKPOINT.value) != bool(_GAMES.value):
    raise ValueError('--checkpoint goes with --games')
  schedule = [1.0] * _PASSES.value
  if _SCHEDULE.value is not None:
    schedule = [float(share) for share in _SCHEDULE.value]
  width = 2 if _WIDTH.value is None else _WIDTH.value
  horizon = 2 if _HORIZON.value is None else _HORIZON.value
  default = _WIDTH.value is None and _HORIZON.value is None
  results = []
  for size in _SIZE.value:
    results += plan.measure(
      size,
      _numbers(_ENVIRONMENTS),
      plan.SETTINGS if default else [(width, horizon)],
      schedule,
      seconds,
    )
  print(plan.describe(results))
  if _CHECKPOINT.value:
    for count in _numbers(_ENVIRONMENTS):
      trained = passes.measure(
        _CHECKPOINT.value,
        games.parse_games(_GAMES.value),
        _DECISIONS.value,
        count,
        width=width,
        horizon=horizon,
      )
      print(passes.describe(trained))
      results += trained
  return results


def _eval() -> list[dict]:
  with common.importing():
    from jowa_jax import games
    from jowa_jax.bench import evaluation

  results = [
    record
    for size in _SIZE.value[: 1 if _CHECKPOINT.value else None]
    for environments in _numbers(_ENVIRONMENTS)
    for record in evaluation.measure(
      size,
      games.parse_games(_GAMES.value or 'Assault,Carnival'),
      environments,
      _DECISIONS.value,
      _CHECKPOINT.value,
      _PASSES.value,
    )
  ]
  print(evaluation.describe(results))
  return results


def _backbone_changes() -> dict[str, object]:
  changes = {}
  if _FUSED.value:
    changes |= dict(fused_attention=True, attention_dropout=0.0)
  if _REMAT.value:
    changes |= dict(remat=True)
  return changes


def _train() -> list[dict]:
  with common.importing():
    from jowa_jax.bench import train

  seconds = 5.0 if _SECONDS.value is None else _SECONDS.value
  if _RUN.value is not None:
    given = _numbers(_BATCH_SIZE) if _BATCH_SIZE.present else [None]
    config = _config_of(_RUN.value)
    results = [
      record
      for batch_size in given
      for record in train.run_config(config, seconds, batch_size)
    ]
  else:
    results = train.measure(
      _SIZE.value,
      _numbers(_BATCH_SIZE),
      _STAGE.value,
      _DTYPE.value or ['float32'],
      _TOKENS.value,
      seconds,
      _IMAGINATION.value,
      **_backbone_changes(),
    )
  print(train.describe(results))
  return results


def _config_of(run: str) -> dict:
  if run.partition(':')[0].endswith('.py'):
    return common.read_config(run).copy_and_resolve_references().to_dict()
  with common.importing():
    from jowa_jax.checkpoint.run_directory import RunDirectory

  config = RunDirectory(run).read_config()
  if config is None:
    raise ValueError(
      f'--run={run} is neither the directory of a run nor a config'
    )
  return config


def _scale() -> list[dict]:
  axes = {'data': 1, 'fsdp': 1, 'tensor': 1}
  for item in _MESH.value:
    name, _, count = item.partition('=')
    if name not in axes or not count.isdigit() or not int(count):
      raise ValueError(f'--mesh={item}: an axis is one of {list(axes)}=devices')
    axes[name] = int(count)
  # Before JAX looks for devices.
  virtual = f'--xla_force_host_platform_device_count={math.prod(axes.values())}'
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {virtual}'
  os.environ['JAX_PLATFORMS'] = 'cpu'
  with common.importing():
    from jowa_jax.bench import scale

  device = scale.Device(_PEAK_FLOPS.value, _LINK_BANDWIDTH.value)
  if _RUN.value is not None:
    config = _config_of(_RUN.value)
    results = [
      record
      for batch_size in _numbers(_BATCH_SIZE)
      for record in scale.run_config(config, axes, batch_size, device)
    ]
    print(scale.describe(results))
    return results
  results = [
    scale.predict(
      size,
      axes,
      batch_size,
      device,
      _STAGE.value,
      dtype,
      _TOKENS.value,
      **_backbone_changes(),
    )
    for size in _SIZE.value
    for dtype in _DTYPE.value or ['bfloat16']
    for batch_size in _numbers(_BATCH_SIZE)
  ]
  print(scale.describe(results))
  return results


def _play() -> list[dict]:
  from jowa_jax import games
  from jowa_jax.bench import play

  game = None
  if _GAMES.value:
    names = games.parse_games(_GAMES.value)
    if len(names) > 1:
      raise ValueError(f'--games={_GAMES.value}: one game is played')
    game = names[0]
  results = play.measure(
    _CHECKPOINT.value or 'pretrained',
    game,
    _numbers(_ENVIRONMENTS) if _ENVIRONMENTS.present else [1, 16, 256],
    5.0 if _SECONDS.value is None else _SECONDS.value,
  )
  print(play.describe(results))
  return results


def _numbers(flag: flags.FlagHolder) -> list[int]:
  if not all(count.isdigit() for count in flag.value):
    raise ValueError(f'--{flag.name}={flag.value} are not numbers')
  return [int(count) for count in flag.value]


def main() -> None:
  suites = dict(
    data=_data,
    plan=_plan,
    eval=_eval,
    train=_train,
    scale=_scale,
    play=_play,
  )
  results = suites[_SUITE.value]()
  if _JSON.value:
    files.write_text(_JSON.value, json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
  flags.mark_flag_as_required('suite')
  common.run(main)
