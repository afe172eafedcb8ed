"""Released files, imported, are fine-tuned by two processes as by one."""

import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn

from configs import jowa
from jowa_jax.agent import load
from jowa_jax.checkpoint.released import export_released
from jowa_jax.collect.collect import collect
from jowa_jax.methods.factory import make_method
from jowa_jax.train.metrics import RATES
from tests.train.helpers import flat, free_port, read_metrics, script_env

ROOT = pathlib.Path(__file__).parents[2]
GAME = 'Robotank'


@pytest.fixture(scope='module')
def play_dir(tmp_path_factory):
  output = tmp_path_factory.mktemp('robotank')
  collect(output, GAME, (1.0, 1.0), 60, num_processes=2, progress=False)
  return output


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
  """The directory that launch.import_checkpoint makes of untrained weights."""
  folder = tmp_path_factory.mktemp('released')
  config = jowa.get_config('smoke').copy_and_resolve_references().to_dict()
  files = [folder / f'{name}.safetensors' for name in ('tokenizer', 'model')]
  statistics = {'median_frames': np.zeros((60, 84, 84), np.uint8)}
  variables = jax.jit(make_method(config).init)(jax.random.key(0), statistics)
  export_released(nn.meta.unbox(variables), config, *files)
  _launch(
    'import_checkpoint',
    *(f'--tokenizer={files[0]}', f'--model={files[1]}'),
    *(f'--output={folder / "run"}', '--dtype=float32'),
    f'--num_heads={config["backbone"]["num_heads"]}',
  )
  return folder / 'run'


def _start(script, *flags):
  return subprocess.Popen(
    [sys.executable, '-m', f'launch.{script}', *flags],
    env=script_env(),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _launch(script, *flags, count=1):
  """Runs a script to its end in processes; returns what each printed."""
  port, processes = free_port(), []
  for process in range(count):
    more = (
      f'--coordinator_address=127.0.0.1:{port}',
      f'--num_processes={count}',
      f'--process_id={process}',
    )
    processes.append(_start(script, *flags, *(more if count > 1 else ())))
  try:
    ended = [process.communicate(timeout=900) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (_, errors) in zip(processes, ended, strict=True):
    assert process.returncode == 0, errors[-5000:]
  return [output for output, _ in ended]


@pytest.mark.slow
def test_two_processes_finetune_what_was_imported_as_one_does(
  imported, play_dir, tmp_path
):
  outputs = {}
  for count in (1, 2):
    outputs[count] = _launch(
      'finetune',
      '--config=configs/finetune.py:smoke',
      *(f'--game={GAME}', f'--data={play_dir}', f'--checkpoint={imported}'),
      *(f'--workdir={tmp_path / str(count)}', '--noprogress'),
      f'--config.mesh.axes.data={count}',
      # What makes runs comparable, see `helpers.comparable_config`.
      *('--config.backbone.dropout=0.0', '--config.heads.dropout=0.0'),
      '--config.backbone.attention_dropout=0.0',
      '--config.stages.finetune.world_action.eps=1e-3',
      '--config.imagination.policy=planning',
      '--config.imagination.start_step=4',
      count=count,
    )
  one, two = (read_metrics(tmp_path / str(count)) for count in (1, 2))
  assert [record['step'] for record in one] == [2, 4, 6, 8]
  assert f'play/{GAME}' in one[1] and f'play/{GAME}' in one[3]
  shares = [record['imagination/segments'] for record in one]
  assert shares[0] == 0 < shares[2]
  for mine, other in zip(one, two, strict=True):
    assert mine.keys() == other.keys()
    for name in mine.keys() - {'stage', *RATES}:
      np.testing.assert_allclose(
        mine[name], other[name], rtol=1e-3, atol=1e-3, err_msg=name
      )
  # The first of the processes says how it ended, and alone.
  (alone,), (first, second) = outputs[1], outputs[2]
  said = re.compile(rf'play/{GAME}: best \S+ after step \d, last \S+ after')
  assert said.search(alone) and said.search(first)
  assert not said.search(second) and 'launch' not in second
  # It began from what was imported, and learned.
  before, after = load(imported), load(tmp_path / '2')
  assert after.step == 8
  old, new = (flat(agent.variables.params) for agent in (before, after))
  moved = {path.split("'")[1] for path in old if (old[path] != new[path]).any()}
  assert moved == {'backbone', 'world_heads', 'q_heads'}
