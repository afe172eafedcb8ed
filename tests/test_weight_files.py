"""Files of tensors: each kind read back, and none that can do harm."""

import json
import pickle
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from jowa_jax import weight_files
from jowa_jax.weight_files import WeightFileError, read_state, write_state
from tests.harmful import RunsCode

STATE = {
  'module.encoder.conv_in.weight': np.arange(24, dtype=np.float32).reshape(
    2, 3, 4
  ),
  'transposed': np.arange(6, dtype=np.float32).reshape(2, 3).T,
  'steps': np.array(7),
}


@pytest.fixture(params=weight_files.SUFFIXES)
def suffix(request):
  if weight_files.needs_torch(f'x{request.param}'):
    pytest.importorskip('torch')
  return request.param


@pytest.fixture
def torch():
  return pytest.importorskip('torch')


def test_what_is_written_is_read(tmp_path, suffix):
  path = tmp_path / f'state{suffix}'
  write_state(path, STATE)
  found = read_state(path)
  assert found.keys() == STATE.keys()
  for name, value in STATE.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value)
  assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_names_lose_the_wrappers_prefixes():
  for prefix in ('', 'module.', '_orig_mod.', '_orig_mod.module.'):
    assert weight_files.bare_name(f'{prefix}a.module.b') == 'a.module.b'


def test_half_precision_is_widened_and_logged(tmp_path, caplog):
  halves = {
    'a': np.array([1.5, -2.25], ml_dtypes.bfloat16),
    'b': np.array([0.1, 3.0], np.float16),
    'c': np.array([0.1, 3.0], np.float32),
    'd': np.array([1], np.int64),
  }
  path = tmp_path / 'halves.safetensors'
  write_state(path, halves)
  with caplog.at_level('INFO'):
    found = read_state(path)
  for name, value in halves.items():
    np.testing.assert_array_equal(found[name], value.astype(np.float64))
  assert {found[name].dtype for name in 'abc'} == {np.dtype(np.float32)}
  assert found['d'].dtype == np.int64
  for kind in ('bfloat16', 'float16'):
    assert f'1 of 4 tensors are {kind}; converted to float32' in caplog.text


def test_half_precision_of_torch_is_widened(tmp_path, torch, caplog):
  path = tmp_path / 'halves.pt'
  values = torch.tensor([1.5, -2.25, 0.0])
  torch.save({'a': values.bfloat16(), 'b': values.half()}, path)
  with caplog.at_level('INFO'):
    found = read_state(path)
  for name in 'ab':
    np.testing.assert_array_equal(found[name], values.numpy())
  assert 'bfloat16' in caplog.text


def test_files_that_are_none_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='none.npz: no such file'):
    read_state(tmp_path / 'none.npz')
  for name, shown in (('x.bin', "'.bin'"), ('x', 'nothing')):
    (tmp_path / name).write_bytes(b'')
    with pytest.raises(WeightFileError, match=f'.npz, .saf.*not in {shown}'):
      read_state(tmp_path / name)
    with pytest.raises(WeightFileError, match=f'not in {shown}'):
      write_state(tmp_path / name, STATE)


def test_damaged_npz_files_are_named(tmp_path):
  np.savez(tmp_path / 'whole.npz', **STATE)
  whole = (tmp_path / 'whole.npz').read_bytes()
  np.savez_compressed(tmp_path / 'squeezed.npz', a=np.zeros(999))
  squeezed = bytearray((tmp_path / 'squeezed.npz').read_bytes())
  squeezed[60:80] = bytes([255] * 20)
  np.save(tmp_path / 'array.npy', np.zeros(3))
  cases = {
    'cut': whole[:100],
    'squeezed': squeezed,
    'empty': b'',
    'text': b'not an archive',
    'array': (tmp_path / 'array.npy').read_bytes(),
  }
  for name, content in cases.items():
    (tmp_path / f'{name}.npz').write_bytes(content)
  np.savez(tmp_path / 'objects.npz', a=np.array([{}], dtype=object))
  with zipfile.ZipFile(tmp_path / 'zip.npz', 'w') as archive:
    archive.writestr('notes.txt', 'no array')
  for name in (*cases, 'objects', 'zip'):
    with pytest.raises(WeightFileError, match=f'{name}.npz: not a readable'):
      read_state(tmp_path / f'{name}.npz')


def test_damaged_safetensors_files_are_named(tmp_path):
  path = tmp_path / 'state.safetensors'
  write_state(path, STATE)
  whole = path.read_bytes()
  for content in (whole[:50], whole[:-2], b'', b'PK\x03\x04', b'x' * 100):
    path.write_bytes(content)
    with pytest.raises(WeightFileError, match='state.safetensors: not a read'):
      read_state(path)


@pytest.mark.parametrize('kind', ['F8_E4M3', 'F8_E5M2', 'F8_E8M0'])
def test_numbers_of_eight_bits_are_named(tmp_path, kind):
  header = json.dumps(
    {
      'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]},
      'b.weight': {'dtype': kind, 'shape': [2], 'data_offsets': [4, 6]},
    }
  ).encode()
  path = tmp_path / 'state.safetensors'
  path.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(6))
  with pytest.raises(
    WeightFileError, match=f"state.safetensors: .*'b.weight' .* {kind}, .*BF16"
  ):
    read_state(path)


def test_damaged_torch_files_are_named(tmp_path, torch):
  path = tmp_path / 'state.pt'
  write_state(path, {'a': np.zeros(2000, np.float32)})
  whole = path.read_bytes()
  flipped = bytearray(whole)
  flipped[4000] ^= 255
  cases = (whole[:4], whole[:1000], whole[:-5], flipped, b'', b'.text')
  for content in cases:
    path.write_bytes(content)
    with pytest.raises(WeightFileError, match='state.pt: not a readable .pt'):
      read_state(path)


def test_no_code_of_a_file_runs(tmp_path, torch):
  marker = tmp_path / 'marker'
  harmful = RunsCode(marker)
  torch.save({'a': torch.zeros(2), 'b': harmful}, tmp_path / 'zip.pt')
  for protocol in (2, 4):
    content = pickle.dumps({'a': harmful}, protocol)
    (tmp_path / f'bare{protocol}.pt').write_bytes(content)
  for name in ('zip', 'bare2', 'bare4'):
    with pytest.raises(WeightFileError) as raised:
      read_state(tmp_path / f'{name}.pt')
    message = str(raised.value)
    assert message.startswith(f'{tmp_path}/{name}.pt: holds ')
    assert 'could run code' in message and 'weights_only' not in message
  assert not marker.exists()
  # The files would have: `pickle` runs them.
  pickle.loads(pickle.dumps(harmful))
  assert marker.exists()


def test_what_a_torch_file_holds_beside_tensors_is_named(tmp_path, torch):
  path = tmp_path / 'state.pt'
  torch.save(torch.nn.Linear(2, 2), path)
  with pytest.raises(WeightFileError, match='torch.nn.modules.linear.Linear'):
    read_state(path)
  torch.save([torch.zeros(2)], path)
  with pytest.raises(WeightFileError, match='holds a list; expected a state'):
    read_state(path)
  others = {
    'model': {'a': torch.zeros(1)},
    'epoch': 3,
    'sparse': torch.eye(2).to_sparse(),
    'meta': torch.zeros(2, device='meta'),
    'fine': torch.zeros(2),
  }
  torch.save(others, path)
  with pytest.raises(WeightFileError) as raised:
    read_state(path)
  for name in ("'model' is a dict", "'epoch' is a int", 'sparse', 'meta'):
    assert name in str(raised.value)
  assert 'fine' not in str(raised.value)


def test_without_torch_the_remedy_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  path = tmp_path / 'tokenizer.pt'
  path.write_bytes(b'')
  with pytest.raises(WeightFileError, match='tokenizer.pt.*pip install torch'):
    read_state(path)
  with pytest.raises(WeightFileError, match='pip install torch'):
    write_state(tmp_path / 'other.pt', STATE)
  assert not (tmp_path / 'other.pt').exists()


@pytest.mark.slow
def test_torch_is_not_imported_where_it_is_not_needed(tmp_path):
  path = tmp_path / 'state.safetensors'
  write_state(path, STATE)
  code = f"""
import sys
from jowa_jax import weight_files
assert 'safetensors' not in sys.modules
weight_files.write_state({str(path)!r}, weight_files.read_state({str(path)!r}))
assert 'torch' not in sys.modules
"""
  subprocess.run([sys.executable, '-c', code], check=True)
