"""The benchmarks of training run and measure all they say; not how fast."""

import json

import jax
import pytest
from flax import linen as nn

from jowa_jax.bench import models, plain_resnet, scale, train
from jowa_jax.models import flops
from jowa_jax.models.resnet import Encoder, ResNetConfig
from jowa_jax.train.state import stage_flops
from tests.train import helpers


@pytest.fixture
def benchmark(launch, tmp_path):
  """The records and the output of `launch.benchmark`, in any directory."""

  def run(*flags):
    path = tmp_path / 'records.json'
    flags = ('--size=smoke', f'--json={path}', *flags)
    done = launch('benchmark', *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout

  return run


@pytest.mark.slow
def test_steps_are_timed(benchmark):
  (record,), text = benchmark(
    '--suite=train',
    '--batch_size=2',
    '--seconds=0.01',
    '--tokens',
    '--fused_attention',
    '--remat',
  )
  assert record['step_seconds'] > 0 and record['peak_bytes'] > 0
  assert record['tokens_per_second'] == pytest.approx(
    2 * 296 / record['step_seconds']
  )
  assert record['mfu'] is None  # the peak of a CPU is not known
  # The compiler counts a little more than the formula, and once more by remat.
  assert 1 < record['compiled_flops'] / record['model_flops'] < 2.5
  assert record['dream_ratio'] is None
  assert 'smoke' in text and record['compile_seconds'] > 0


@pytest.mark.slow
def test_imagination_is_timed_beside_the_step_without(benchmark):
  (record, imagined), text = benchmark(
    '--suite=train',
    '--batch_size=2',
    '--seconds=0.01',
    '--tokens',
    '--imagination=planning',
  )
  assert imagined['dream_ratio'] == pytest.approx(
    imagined['step_seconds'] / record['step_seconds'] - 1
  )
  assert 1 <= imagined['dream_passes'] <= 36
  assert 'smoke' in text


@pytest.mark.slow
def test_meshes_are_compiled_ahead(benchmark):
  mesh = '--mesh=data=2,fsdp=2,tensor=2'
  (record,), text = benchmark(
    '--suite=scale', mesh, '--batch_size=8', '--tokens'
  )
  assert record['mesh'] == {'data': 2, 'fsdp': 2, 'tensor': 2}
  assert record['moment_bytes'] > 0 and record['activation_bytes'] > 0
  assert record['collective_bytes']['all-reduce'] > 0
  assert record['collective_bytes']['all-gather'] > 0
  low, high = record['step_seconds']
  assert 0 < low <= high
  assert 'smoke on' in text


@pytest.mark.slow
def test_any_config_is_compiled_ahead(benchmark):
  (record,), text = benchmark(
    *('--suite=scale', '--run=configs/mgdt.py:smoke', '--batch_size=8'),
    '--mesh=data=2,fsdp=2,tensor=2',
  )
  assert record['size'] == 'mgdt' and record['stage'] == 'policy'
  assert record['dtype'] == 'float32'
  assert record['collective_bytes']['all-reduce'] > 0
  assert 'mgdt on' in text


@pytest.mark.parametrize(
  ('line', 'kind', 'expected'),
  [
    ('%a = f32[4,8]{1,0} all-gather(%b), dimensions={0}', 'all-gather', 128),
    ('%a = bf16[10] all-reduce(%b), to_apply=%add', 'all-reduce', 40),
    (
      '%a = (f32[2], s32[3]) all-reduce(%b, %c), to_apply=%add',
      'all-reduce',
      40,
    ),
    (
      '%a = f32[2] reduce-scatter(%b), replica_groups={{0,1,2,3}}',
      'reduce-scatter',
      32,
    ),
    (
      '%a = f32[2] reduce-scatter(%b), replica_groups=[2,4]<=[8]',
      'reduce-scatter',
      32,
    ),
  ],
)
def test_bytes_of_collectives(line, kind, expected):
  moved = scale.collective_bytes(
    f'HloModule x\n  {line}\n  %d = f32[2] add(%a)'
  )
  assert moved.pop(kind) == expected and not any(moved.values())


def test_formula_of_the_published_model():
  """About 8e13 operations for a batch of 512 of JOWA-150M."""
  method, model = train.jowa('150m', 'bfloat16')
  _, stage2 = train.STAGES.values()
  needed = 512 * stage_flops(method, stage2)
  assert needed == pytest.approx(8e13, rel=0.1)
  # Six operations for every weight and token, and the attention.
  tokens = model.backbone.max_tokens
  weights = 6 * 12 * 12 * 768**2 * tokens
  assert 3 * flops.backbone(model.backbone) == pytest.approx(weights, rel=0.1)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (dict(batch_sizes=[0]), 'batch_size=0'),
    (dict(stage='stage3'), "stage='stage3'"),
    (dict(stage='stage1', tokens=True), 'on frames, not on tokens'),
    (dict(seconds=0.0), 'seconds=0'),
    (dict(sizes=['2m']), "'2m'"),
  ],
)
def test_bad_requests_are_errors(arguments, message):
  with pytest.raises(ValueError, match=message):
    train.measure(**{'sizes': ['smoke'], 'batch_sizes': [1], **arguments})


@pytest.mark.slow
def test_a_mesh_needs_its_devices():
  with pytest.raises(ValueError, match='has 4 devices, here are'):
    scale.predict('smoke', {'data': 4}, 4, scale.Device(1.0, 1.0))


def test_sizes_of_a_billion():
  _, model = models.configs('1b', 'bfloat16')
  cfg = model.backbone
  assert 12 * cfg.num_layers * cfg.width**2 == pytest.approx(1e9, rel=0.1)


@pytest.mark.slow
def test_a_resnet_is_measured_beside_a_plain_one():
  config = helpers.CONFIGS['scaled_ql'].get_config('smoke').to_dict()
  config['data']['games'] = ('Freeway',)
  (record,) = train.run_config(config, 0.01, batch_size=2)
  assert record['batch_size'] == 2
  assert record['flops_ratio'] == pytest.approx(
    record['compiled_flops'] / record['plain_flops']
  )
  assert record['seconds_ratio'] == pytest.approx(
    record['step_seconds'] / record['plain_seconds']
  )
  text = train.describe([record])
  assert 'q beside a plain ResNet of' in text and 'times its operations' in text


@pytest.mark.slow
@pytest.mark.parametrize('size', ['resnet34', 'resnet101'])
def test_the_plain_resnet_is_as_large_as_the_encoder(size):
  config = helpers.CONFIGS['scaled_ql'].get_config(size).to_dict()['encoder']
  config = ResNetConfig(**{**config, 'pooling': 'mean'})
  image = jax.ShapeDtypeStruct((1, 84, 84, 4), 'float32')
  counts = []
  for network in (plain_resnet.PlainResNet(config), Encoder(config)):
    params = jax.eval_shape(network.init, jax.random.key(0), image)
    leaves = jax.tree.leaves(nn.meta.unbox(params))
    counts.append(sum(leaf.size for leaf in leaves))
  classes = (config.channels + 1) * 1000
  assert counts[0] - classes == counts[1]
