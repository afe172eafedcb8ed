"""Files of named tensors from elsewhere: .npz, .safetensors, .pt and .pth.

Reading one never runs code that it holds. torch is needed for .pt and .pth
alone, and imported only then.
"""

import collections
import logging
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jowa_jax import files

_TORCH = ('.pt', '.pth')
_SAFE_TORCH = (2, 6)
SUFFIXES = ('.npz', '.safetensors', *_TORCH)
# What torch's wrappers for many devices and for compiling put before names.
_WRAPPERS = ('module.', '_orig_mod.')


class WeightFileError(ValueError):
  """A file of weights that cannot be used; the message names it."""


def bare_name(name: str) -> str:
  """A tensor's name without the prefixes of torch's wrappers."""
  while wrapper := next((w for w in _WRAPPERS if name.startswith(w)), None):
    name = name.removeprefix(wrapper)
  return name


def check_suffix(path: str | Path) -> None:
  """Raises WeightFileError if files of this suffix are none of ours."""
  suffix = Path(path).suffix
  if suffix not in SUFFIXES:
    raise WeightFileError(
      f'{path}: files of weights end in {", ".join(SUFFIXES)}, not in '
      f'{repr(suffix) if suffix else "nothing"}'
    )


def read_state(path: str | Path, widen: bool = True) -> dict[str, np.ndarray]:
  """Reads a flat state dict.

  Args:
    path: a file of one of `SUFFIXES`.
    widen: convert other floating-point numbers to float32, which is logged.

  Returns:
    Arrays by name.

  Raises:
    FileNotFoundError: there is no such file.
    WeightFileError: the suffix is none of ours, the file is damaged or holds
      more than named tensors, or torch is needed and missing.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of weights')
  check_suffix(path)
  if path.suffix == '.npz':
    state = _read_npz(path)
  elif path.suffix == '.safetensors':
    state = _read_safetensors(path)
  else:
    state = _read_torch(path)
  return _in_float32(state, path) if widen else state


def read_metadata(path: str | Path) -> dict[str, str]:
  """The texts that a .safetensors file holds beside its tensors.

  Raises:
    WeightFileError: the file is damaged or of another kind.
  """
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(path, framework='numpy') as file:
      return dict(file.metadata() or {})
  except (OSError, SafetensorError) as error:
    raise _unreadable(Path(path), error) from error


def write_state(
  path: str | Path,
  state: Mapping[str, np.ndarray],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes a flat state dict, whole or not at all.

  Args:
    path: of one of `SUFFIXES`.
    state: arrays by name.
    metadata: texts for `read_metadata`, in .safetensors files alone.

  Raises:
    WeightFileError: the suffix is none of ours, or torch is needed and missing.
  """
  path = Path(path)
  check_suffix(path)
  # Safetensors writes memory as it lies.
  state = {name: np.array(value, order='C') for name, value in state.items()}
  if path.suffix == '.npz':
    with files.written_whole(path) as temporary:
      np.savez(temporary, **state)
  elif path.suffix == '.safetensors':
    from safetensors.numpy import save_file

    with files.written_whole(path) as temporary:
      save_file(state, temporary, metadata and dict(metadata))
  else:
    torch = import_torch(path)
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    with files.written_whole(path) as temporary:
      torch.save(tensors, temporary)


def import_torch(path: str | Path) -> Any:
  """Torch, for a file that needs it.

  Raises:
    WeightFileError: it is not installed.
  """
  try:
    import torch
  except ImportError as error:
    raise WeightFileError(
      f'{path}: a {Path(path).suffix} file needs torch, which is not '
      'installed; run `pip install torch`, or take .npz or .safetensors'
    ) from error
  version = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))
  if version < _SAFE_TORCH:
    # Before, a file could run code however it was loaded (CVE-2025-32434).
    raise WeightFileError(
      f'{path}: torch {torch.__version__} does not keep a file from running '
      f'code; run `pip install -U torch` for at least '
      f'{".".join(map(str, _SAFE_TORCH))}, or take .npz or .safetensors'
    )
  return torch


def needs_torch(path: str | Path) -> bool:
  return Path(path).suffix in _TORCH


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  if not zipfile.is_zipfile(path):
    raise _unreadable(path, 'it is no zip archive')
  try:
    with np.load(path, allow_pickle=False) as archive:
      state = {name: archive[name] for name in archive.files}
  except (
    EOFError,
    OSError,
    RuntimeError,  # another compression or version, a password
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise _unreadable(path, error) from error
  # What is not an array comes as bytes.
  others = [n for n, v in state.items() if not isinstance(v, np.ndarray)]
  if others:
    raise _unreadable(path, f'{others[0]} in it is no array')
  return state


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  try:
    return load_file(path)
  except AttributeError as error:
    # NumPy lacks the type that a tensor is of.
    raise _of_unknown_type(path) from error
  except (KeyError, OSError, SafetensorError, TypeError) as error:
    raise _unreadable(path, error) from error


def _of_unknown_type(path: Path) -> WeightFileError:
  """What to say of a .safetensors file of types that NumPy lacks."""
  from safetensors import safe_open

  with safe_open(path, framework='numpy') as file:
    types = {name: file.get_slice(name).get_dtype() for name in file.keys()}
  name, kind = next((n, t) for n, t in types.items() if t.startswith('F8'))
  return WeightFileError(
    f'{path}: the tensor {name!r} is of the type {kind}, which is not read: '
    'convert it to BF16, F16 or F32 first'
  )


def _read_torch(path: Path) -> dict[str, np.ndarray]:
  torch = import_torch(path)
  _check_archive(path)
  try:
    state = torch.load(path, map_location='cpu', weights_only=True)
  except pickle.UnpicklingError as error:
    raise WeightFileError(_needs_code(path, str(error))) from error
  except (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
  ) as error:
    raise _unreadable(path, error) from error
  if not isinstance(state, Mapping):
    raise WeightFileError(
      f'{path}: holds a {type(state).__name__}; expected a state dict, tensors '
      'by name'
    )
  others = [
    f'{name!r} is a {type(value).__name__}'
    for name, value in state.items()
    if not (isinstance(name, str) and _is_plain(torch, value))
  ]
  if others:
    raise WeightFileError(
      f'{path}: expected a flat state dict of plain tensors, but '
      f'{", ".join(others[:10])}'
    )
  return {name: _to_numpy(torch, value) for name, value in state.items()}


def _check_archive(path: Path) -> None:
  """Raises WeightFileError if a zip archive is damaged: torch takes it as is.

  Files of old versions of torch are no archives.
  """
  with path.open('rb') as file:
    if file.read(2) != b'PK':
      return
  try:
    with zipfile.ZipFile(path) as archive:
      damaged = archive.testzip()
  except (
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise _unreadable(path, error) from error
  if damaged:
    raise _unreadable(path, f'the checksum of {damaged} is another')


def _is_plain(torch: Any, value: Any) -> bool:
  """Whether a value is a tensor of numbers that numpy can hold."""
  return (
    isinstance(value, torch.Tensor)
    and value.layout == torch.strided
    and value.device.type == 'cpu'
    and not value.is_quantized
    and (value.dtype.itemsize > 1 or not value.is_floating_point())
  )


def _to_numpy(torch: Any, tensor: Any) -> np.ndarray:
  tensor = tensor.detach()
  if tensor.dtype == torch.bfloat16:
    # torch has no way of its own to numpy's extension.
    return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
  return tensor.numpy()


def _needs_code(path: Path, message: str) -> str:
  found = re.search(r'GLOBAL (\S+)', message)
  return (
    f'{path}: holds {found[1] if found else "something"} beside plain tensors, '
    'and reading it could run code that came with the file. It is refused; '
    'save a flat state dict alone where you trust it: '
    'torch.save(model.state_dict(), ...)'
  )


def _unreadable(path: Path, reason: Any) -> WeightFileError:
  return WeightFileError(
    f'{path}: not a readable {path.suffix} file of tensors ({reason}); it is '
    'of another kind, truncated or damaged'
  )


def _in_float32(
  state: dict[str, np.ndarray], path: Path
) -> dict[str, np.ndarray]:
  """Converts floating-point numbers of other types, and logs how many."""
  others = {
    name: value
    for name, value in state.items()
    if jnp.issubdtype(value.dtype, jnp.floating) and value.dtype != np.float32
  }
  for kind, count in collections.Counter(
    value.dtype.name for value in others.values()
  ).items():
    logging.info(
      '%s: %d of %d tensors are %s; converted to float32',
      path,
      count,
      len(state),
      kind,
    )
  return state | {k: v.astype(np.float32) for k, v in others.items()}
