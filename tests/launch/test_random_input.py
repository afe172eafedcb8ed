"""No traceback reaches a user, whatever files and flags are tried."""

import json
import pathlib

import numpy as np
import pytest

CASES = 200
# Scripts, and flags whose files are random ones of these suffixes.
SCRIPTS = (
  ('train', ('--config=configs/jowa.py:smoke', '--workdir={new}')),
  ('train', ('--config=configs/mgdt.py:smoke', '--workdir={new}')),
  ('evaluate', ('--games=Pong', '--checkpoint={run}', '--output={new}')),
  (
    'evaluate',
    ('--games=Pong', '--checkpoint={safetensors}', '--output={new}'),
  ),
  ('evaluate', ('--games=Pong', '--output={jsonl}')),
  (
    'finetune',
    (
      *('--config=configs/finetune.py:smoke', '--game=Pong'),
      *('--checkpoint={run}', '--data={data}', '--workdir={new}'),
    ),
  ),
  ('report', ('--results={jsonl}', '--output={new}')),
  ('report', ('--runs={run}', '--output={new}')),
  ('report', ('--pictures={run}', '--output={new}')),
  ('inspect_data', ('--data={data}',)),
  ('collect', ('--replay={npz}', '--output={new}')),
  ('export_data', ('--format=minari', '--data={data}', '--output={new}')),
  ('judge', ('--checkpoint={run}', '--output={new}')),
  ('pack', ('--checkpoint={run}', '--output={new}.safetensors')),
  (
    'encode_tokens',
    ('--checkpoint={run}', '--data={data}', '--games=Pong', '--output={new}'),
  ),
  (
    'import_checkpoint',
    ('--tokenizer={npz}', '--model={safetensors}', '--output={new}'),
  ),
  (
    'import_checkpoint',
    ('--method=mgdt', '--model={pkl}', '--output={new}'),
  ),
  (
    'export_checkpoint',
    ('--checkpoint={run}', '--output_model={new}.npz'),
  ),
  *(
    (
      'prepare_data',
      (
        *(f'--source={source}', '--input={data}', '--games=Pong'),
        '--output={new}',
      ),
    )
    for source in ('dqn_replay', 'rlu', 'ale', 'jowa_hdf5', 'minari')
  ),
)
# Values that nobody means; none begins something that takes long.
VALUES = ('', ' ', '-1', 'nan', '1e400', '[', '(1,', "'", 'é☃', 'a,,b', '../..')
FLAGS = (
  *('seed', 'step', 'games', 'game', 'rollouts', 'shard', 'slots', 'quality'),
  *('runs', 'checkpoints', 'fraction', 'transitions', 'reps', 'context_length'),
  *('config', 'config.run.batch_size', 'config.data.games', 'config.x'),
  *('config.protocol.epsilon', 'config.replay.checkpoints', 'mesh', 'planner'),
)


def _content(rng: np.random.Generator) -> bytes:
  """Bytes that are nothing, or nearly something."""
  kinds = (
    b'',
    rng.bytes(int(rng.integers(1, 200))),
    b'{"step": 1, "stage"',
    json.dumps({'method': 'jowa', 'config': [1]}).encode(),
    json.dumps([[1, 2], {'a': None}]).encode(),
    b'\x93NUMPY\x01\x00v\x00' + rng.bytes(40),
    b'PK\x03\x04' + rng.bytes(60),
    b'\x89HDF\r\n\x1a\n' + rng.bytes(60),
    (30).to_bytes(8, 'little') + b'{"a": {"dtype": "F32"}}' + rng.bytes(9),
    b'\x80\x04]\x94(K\x01K\x02e.',
  )
  return kinds[int(rng.integers(len(kinds)))]


def _write(path: pathlib.Path, rng: np.random.Generator) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(_content(rng))


def _files(folder: pathlib.Path, rng: np.random.Generator) -> dict[str, str]:
  """Files and directories by what a flag wants."""
  names = {
    'new': folder / 'new',
    'run': folder / 'run',
    'data': folder / 'data',
  }
  for suffix in ('npz', 'safetensors', 'jsonl', 'pkl'):
    names[suffix] = folder / f'file.{suffix}'
    _write(names[suffix], rng)
  inside = {
    'run': ('config.json', 'metrics.jsonl', 'checkpoints/7/x', 'dreams.npz'),
    'data': (
      *('jowa_atari_frames/Pong_run_1/1.0.0/episodes.json', 'manifest.json'),
      'jowa_atari/Pong_run_1/1.0.0/dataset_info.json',
      *('Pong/1/replay_logs/$store$_action_ckpt.1.gz', 'Pong_1.h5'),
      'atari/pong/expert-v0/data/metadata.json',
      'atari/pong/expert-v0/data/main_data.hdf5',
    ),
  }
  for name, paths in inside.items():
    names[name].mkdir()
    for path in paths:
      if rng.random() < 0.6:
        _write(names[name] / path, rng)
  if rng.random() < 0.2:
    names['new'].mkdir()
    _write(names['new'] / 'config.json', rng)
  return {name: str(path) for name, path in names.items()}


@pytest.mark.slow
@pytest.mark.parametrize('case', range(CASES))
def test_one_clear_line(case, launch, tmp_path):
  rng = np.random.default_rng(case)
  script, flags = SCRIPTS[case % len(SCRIPTS)]
  names = _files(tmp_path, rng)
  flags = [flag.format(**names) for flag in flags]
  for _ in range(int(rng.integers(3))):
    name, value = rng.choice(FLAGS), rng.choice(VALUES)
    flags.append(f'--{name}={value}')
  done = launch(script, *flags)
  words = f'{script} {" ".join(flags)}:\n{done.stderr}'
  assert 'Traceback' not in done.stderr, words
  assert done.returncode in (0, 2), words
  if done.returncode:
    last = done.stderr.strip().splitlines()[-1]
    assert 'error' in done.stderr and len(last) < 2000, words
