"""Networks that play so that their games are recorded, and their files.

A console's 128 bytes hold all that a game knows, so that a small perceptron on
them learns to play in minutes of one core where one on pixels takes hours
(`network_training`). What it plays is a function of the game's state, which a
network that sees frames can be taught (`distillation`): what that one plays, a
student of its recordings can see reason for. To play with either takes NumPy
alone.
"""

import abc
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jowa_jax import archives, games
from jowa_jax.data.episodes import DataError
from jowa_jax.envs import ale

FORMAT_VERSION = 1
# Bytes of a console's memory.
MEMORY = 128
# What a network sees are the memories, or frames, of so many decisions.
LOOKS = 2
# Inputs are cut off so many standard deviations from their mean.
CLIP = 5.0


@dataclasses.dataclass(frozen=True, eq=False)
class Network(abc.ABC):
  """What plays one game by what it sees after the last two decisions.

  Attributes:
    game: that it learned to play.
    actions: what its outputs stand for, of ALE's 18, A of them.
    decisions: it was taught, of all environments together.
    trained_by: library, version and algorithm, or the teacher's.
  """

  FORMAT: ClassVar[str]  # in its file

  game: str
  actions: tuple[int, ...]
  decisions: int
  trained_by: str

  @staticmethod
  @abc.abstractmethod
  def look(env: ale.AleEnv) -> np.ndarray:
    """What it sees of a game as it is now."""

  @abc.abstractmethod
  def logits(self, seen: np.ndarray) -> np.ndarray:
    """What speaks for each action: two looks, older first -> [A] float32."""

  @abc.abstractmethod
  def arrays(self) -> dict[str, np.ndarray]:
    """All that it learned, by the names in its file."""

  @classmethod
  @abc.abstractmethod
  def of_arrays(
    cls,
    described: Mapping[str, Any],
    contents: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
  ) -> 'Network':
    """The network of a file; ValueError or KeyError if it does not fit.

    Args:
      described: the attributes that are no arrays.
      contents: all that the file says, the number of layers among it.
      arrays: what it learned.
    """

  @property
  def digest(self) -> str:
    """What identifies how it plays: 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    state.update(json.dumps([self.game, self.actions]).encode())
    for array in self.arrays().values():
      state.update(np.ascontiguousarray(array, np.float32))
    return state.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryNetwork(Network):
  """A perceptron on the memory after the last two decisions, with ReLU.

  Attributes:
    mean: [256] float32, of the inputs, older memory first.
    deviation: [256] float32, their standard deviation.
    weights: of every layer, [out, in] float32; the last has A rows.
    biases: of every layer, [out] float32.
  """

  FORMAT = 'jowa_jax network on memory'

  mean: np.ndarray
  deviation: np.ndarray
  weights: tuple[np.ndarray, ...]
  biases: tuple[np.ndarray, ...]

  @staticmethod
  def look(env: ale.AleEnv) -> np.ndarray:
    """The console's memory, [128] uint8."""
    return env.memory

  def logits(self, seen: np.ndarray) -> np.ndarray:
    """[..., 2, 128] uint8 -> [..., A] float32."""
    values = seen.reshape(*seen.shape[:-2], -1).astype(np.float32) - self.mean
    values = np.clip(values / self.deviation, -CLIP, CLIP)
    return _perceptron(self.weights, self.biases, values)

  def arrays(self) -> dict[str, np.ndarray]:
    return {
      'mean': self.mean,
      'deviation': self.deviation,
      **_numbered('weight', self.weights),
      **_numbered('bias', self.biases),
    }

  @classmethod
  def of_arrays(
    cls,
    described: Mapping[str, Any],
    contents: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
  ) -> 'MemoryNetwork':
    layers = int(contents['layers'])
    network = cls(
      **described,
      mean=arrays['mean'],
      deviation=arrays['deviation'],
      weights=_of_numbers('weight', layers, arrays),
      biases=_of_numbers('bias', layers, arrays),
    )
    inputs = (LOOKS * MEMORY,)
    if network.mean.shape != inputs or network.deviation.shape != inputs:
      raise ValueError('a mean or a deviation of another shape')
    _check_layers(network, inputs[0])
    return network


@dataclasses.dataclass(frozen=True, eq=False)
class FrameNetwork(Network):
  """A convolutional network on the frames of the last two decisions, with ReLU.

  Attributes:
    strides: of every convolution, which has no padding.
    kernels: of every convolution, [size, size, in, out] float32; the first
      takes two frames, older first, of values up to 1.
    kernel_biases: of every convolution, [out] float32.
    weights: of every layer after them, [out, in] float32; the last has A rows.
    biases: of every layer after them, [out] float32.
  """

  FORMAT = 'jowa_jax network on frames'

  strides: tuple[int, ...]
  kernels: tuple[np.ndarray, ...]
  kernel_biases: tuple[np.ndarray, ...]
  weights: tuple[np.ndarray, ...]
  biases: tuple[np.ndarray, ...]

  @staticmethod
  def look(env: ale.AleEnv) -> np.ndarray:
    """The frame, [84, 84] uint8."""
    return env.frame

  def logits(self, seen: np.ndarray) -> np.ndarray:
    """[2, 84, 84] uint8 -> [A] float32."""
    values = np.moveaxis(seen, 0, -1).astype(np.float32) / np.float32(255)
    for stride, kernel, bias in zip(
      self.strides, self.kernels, self.kernel_biases, strict=True
    ):
      size = len(kernel)
      windows = np.lib.stride_tricks.sliding_window_view(
        values, (size, size), (0, 1)
      )[::stride, ::stride]
      values = np.tensordot(windows, kernel, ((2, 3, 4), (2, 0, 1))) + bias
      values = np.maximum(values, 0)
    return _perceptron(self.weights, self.biases, values.reshape(-1))

  def arrays(self) -> dict[str, np.ndarray]:
    return {
      'strides': np.array(self.strides, np.int32),
      **_numbered('kernel', self.kernels),
      **_numbered('kernel_bias', self.kernel_biases),
      **_numbered('weight', self.weights),
      **_numbered('bias', self.biases),
    }

  @classmethod
  def of_arrays(
    cls,
    described: Mapping[str, Any],
    contents: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
  ) -> 'FrameNetwork':
    layers = int(contents['layers'])
    strides = tuple(int(stride) for stride in arrays['strides'])
    network = cls(
      **described,
      strides=strides,
      kernels=_of_numbers('kernel', len(strides), arrays),
      kernel_biases=_of_numbers('kernel_bias', len(strides), arrays),
      weights=_of_numbers('weight', layers, arrays),
      biases=_of_numbers('bias', layers, arrays),
    )
    size, channels = ale.FRAME_SIZE, LOOKS
    for stride, kernel, bias in zip(
      strides, network.kernels, network.kernel_biases, strict=True
    ):
      width = len(kernel)
      if stride < 1 or width > size:
        raise ValueError(
          f'a kernel of width {width} with stride {stride} on {size} pixels'
        )
      if kernel.shape != (width, width, channels, len(bias)):
        raise ValueError(f'a kernel of {kernel.shape} on {channels} channels')
      size, channels = (size - width) // stride + 1, len(bias)
    _check_layers(network, size * size * channels)
    return network


def _perceptron(
  weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], x: np.ndarray
) -> np.ndarray:
  *hidden, last = zip(weights, biases, strict=True)
  for weight, bias in hidden:
    x = np.maximum(x @ weight.T + bias, 0.0)
  weight, bias = last
  return x @ weight.T + bias


def _numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  return {f'{name}_{index}': array for index, array in enumerate(arrays)}


def _of_numbers(
  name: str, count: int, arrays: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
  return tuple(arrays[f'{name}_{index}'] for index in range(count))


def _check_layers(network: MemoryNetwork | FrameNetwork, inputs: int) -> None:
  """Raises ValueError if a perceptron's layers do not fit each other."""
  sizes = [inputs, *(len(bias) for bias in network.biases)]
  fitting = [
    weight.shape == (after, before)
    for weight, before, after in zip(
      network.weights, sizes[:-1], sizes[1:], strict=True
    )
  ]
  if not fitting or not all(fitting) or sizes[-1] != len(network.actions):
    raise ValueError(f'layers of {sizes} for {len(network.actions)} actions')


@dataclasses.dataclass(frozen=True)
class NetworkFile:
  """Where a network lies, and which one it has to be."""

  path: str
  digest: str
  decisions: int
  trained_by: str

  @classmethod
  def of(cls, path: str | os.PathLike, game: str) -> 'NetworkFile':
    """That of a file.

    Raises:
      DataError: it is no network, or of another game.
    """
    network = load(path)
    if network.game != games.parse_variant(game).game:
      raise DataError(f'{path} learned to play {network.game}, not {game}')
    return cls(str(path), network.digest, network.decisions, network.trained_by)

  def settings(self) -> dict[str, Any]:
    """What a recording says of who played."""
    settings = dataclasses.asdict(self)
    del settings['path']
    return settings

  def read(self) -> Network:
    """The network.

    Raises:
      DataError: the file has changed since, or is damaged.
    """
    network = load(self.path)
    if network.digest != self.digest:
      raise DataError(f'{self.path} has changed since play began: begin anew')
    return network


class NetworkPolicy:
  """A network's likeliest action, or a random one with the chance epsilon."""

  def __init__(
    self, network: Network, epsilon: float, rng: np.random.Generator
  ):
    legal = games.LEGAL_ACTIONS[network.game]
    self._network = network
    self._indices = [legal.index(action) for action in network.actions]
    self._epsilon = epsilon
    self._rng = rng
    self._count = len(legal)

  def __call__(self, env: ale.AleEnv, first: bool) -> int:
    """An index into the game's minimal actions."""
    now = self._network.look(env)
    if first:
      self._seen = np.stack([now] * LOOKS)
    else:
      self._seen = np.stack([*self._seen[1:], now])
    if self._rng.random() < self._epsilon:
      return int(self._rng.integers(self._count))
    return self._indices[int(np.argmax(self._network.logits(self._seen)))]


def save(path: str | os.PathLike, network: Network) -> None:
  """Writes a network's file, whole; one of the same name is replaced."""
  contents = {
    'format': network.FORMAT,
    'version': FORMAT_VERSION,
    'game': network.game,
    'actions': list(network.actions),
    'decisions': network.decisions,
    'trained_by': network.trained_by,
    'layers': len(network.weights),
  }
  archives.write(path, contents, network.arrays())


def load(path: str | os.PathLike) -> Network:
  """Reads a network's file.

  Raises:
    DataError: it is not there, cut short, or something else; the message names
      the file.
  """
  path = pathlib.Path(path)
  try:
    data = path.read_bytes()
  except FileNotFoundError as error:
    raise DataError(f'{path}: there is no such network') from error
  except IsADirectoryError as error:
    raise DataError(
      f'{path} is a directory: give one of its files, such as '
      f'{path}/checkpoint_00.npz'
    ) from error
  try:
    contents, arrays = archives.parse(data)
    kinds = {kind.FORMAT: kind for kind in (MemoryNetwork, FrameNetwork)}
    kind = kinds.get(contents['format'])
    if kind is None or contents['version'] != FORMAT_VERSION:
      raise ValueError('of another format')
    described = dict(
      game=games.check_game(contents['game']),
      actions=tuple(int(action) for action in contents['actions']),
      decisions=int(contents['decisions']),
      trained_by=str(contents['trained_by']),
    )
    if not set(described['actions']) <= set(
      games.LEGAL_ACTIONS[described['game']]
    ):
      raise ValueError(f'actions {described["actions"]} are not all legal')
    return kind.of_arrays(described, contents, arrays)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise DataError(
      f'{path} is no network of launch.train_player or launch.distill_player, '
      f'or one that was cut short or damaged ({error}): train it again'
    ) from error
