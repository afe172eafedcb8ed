"""Networks that play from the emulator's memory, and their files.

A console's 128 bytes hold all that a game knows, so that a small perceptron on
them learns to play in minutes of one core where one on pixels takes hours. What
it plays is a function of the game's state, which a student that sees frames
can learn. `network_training` trains them; to play with one takes NumPy alone.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jowa_jax import archives, games
from jowa_jax.data.episodes import DataError
from jowa_jax.envs import ale

FORMAT = 'jowa_jax network on memory'
FORMAT_VERSION = 1
# Bytes of a console's memory, and after how many decisions it is looked at.
MEMORY = 128
LOOKS = 2
# Decisions of each environment between two updates of a player that learns.
ROLLOUT = 128
# Inputs are cut off so many standard deviations from their mean.
CLIP = 5.0


@dataclasses.dataclass(frozen=True)
class PlayerConfig:
  """How a player learns.

  Attributes:
    game: that it learns to play.
    decisions: of all environments together, at least.
    actions: those that it chooses among, of ALE's 18; few are learned, and
      imitated, sooner. All that are legal if empty.
    checkpoints: files that are kept, at equal distances, the last at the end.
    environments: that play at once, one after the other.
    max_episode_steps: decisions after which an episode is cut off.
    epsilon: the chance of a random decision, so that what it learns does not
      hang on a single course of events.
    seed: of the weights and of all chance.
  """

  game: str
  decisions: int = 1_500_000
  actions: Sequence[int] = ()
  checkpoints: int = 5
  environments: int = 16
  max_episode_steps: int = 2000
  epsilon: float = 0.02
  seed: int = 0

  def __post_init__(self):
    games.check_game(self.game)
    legal = games.LEGAL_ACTIONS[self.game]
    if wrong := set(self.actions) - set(legal):
      raise ValueError(
        f'actions {sorted(wrong)} are not legal in {self.game}, which has '
        f'{legal}'
      )
    for name in (
      'decisions',
      'checkpoints',
      'environments',
      'max_episode_steps',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    if not 0 <= self.epsilon <= 1:
      raise ValueError(f'epsilon={self.epsilon} is no probability')
    least = (self.checkpoints - 2) * ROLLOUT * self.environments + 1
    if self.decisions < least:
      raise ValueError(
        f'decisions={self.decisions} are too few for {self.checkpoints} '
        f'checkpoints of {self.environments} environments: at least {least}'
      )

  @property
  def choices(self) -> tuple[int, ...]:
    return tuple(self.actions) or games.LEGAL_ACTIONS[self.game]


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """A perceptron on the memory after the last two decisions, with ReLU.

  Attributes:
    game: that it learned to play.
    actions: what its outputs stand for, of ALE's 18, A of them.
    decisions: it was taught, of all environments together.
    trained_by: library, version and algorithm.
    mean: [256] float32, of the inputs, older memory first.
    deviation: [256] float32, their standard deviation.
    weights: of every layer, [out, in] float32; the last has A rows.
    biases: of every layer, [out] float32.
  """

  game: str
  actions: tuple[int, ...]
  decisions: int
  trained_by: str
  mean: np.ndarray
  deviation: np.ndarray
  weights: tuple[np.ndarray, ...]
  biases: tuple[np.ndarray, ...]

  def logits(self, memory: np.ndarray) -> np.ndarray:
    """What speaks for each action: [2, 128] uint8 -> [A] float32."""
    values = memory.reshape(-1).astype(np.float32) - self.mean
    values = np.clip(values / self.deviation, -CLIP, CLIP)
    *hidden, last = zip(self.weights, self.biases, strict=True)
    for weight, bias in hidden:
      values = np.maximum(weight @ values + bias, 0.0)
    weight, bias = last
    return weight @ values + bias

  @property
  def digest(self) -> str:
    """What identifies how it plays: 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    state.update(json.dumps([self.game, self.actions]).encode())
    for array in (self.mean, self.deviation, *self.weights, *self.biases):
      state.update(np.ascontiguousarray(array, np.float32))
    return state.hexdigest()


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
    now = env.memory
    if first:
      self._memory = np.stack([now] * LOOKS)
    else:
      self._memory = np.stack([*self._memory[1:], now])
    if self._rng.random() < self._epsilon:
      return int(self._rng.integers(self._count))
    return self._indices[int(np.argmax(self._network.logits(self._memory)))]


def save(path: str | os.PathLike, network: Network) -> None:
  """Writes a network's file, whole; one of the same name is replaced."""
  contents = {
    'format': FORMAT,
    'version': FORMAT_VERSION,
    'game': network.game,
    'actions': list(network.actions),
    'decisions': network.decisions,
    'trained_by': network.trained_by,
    'layers': len(network.weights),
  }
  arrays = {'mean': network.mean, 'deviation': network.deviation}
  for layer, (weight, bias) in enumerate(
    zip(network.weights, network.biases, strict=True)
  ):
    arrays[f'weight_{layer}'], arrays[f'bias_{layer}'] = weight, bias
  archives.write(path, contents, arrays)


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
  try:
    contents, arrays = archives.parse(data)
    if (contents['format'], contents['version']) != (FORMAT, FORMAT_VERSION):
      raise ValueError('of another format')
    return _assemble(contents, arrays)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise DataError(
      f'{path} is no network of launch.train_player, or one that was cut '
      f'short or damaged ({error}): train it again'
    ) from error


def _assemble(
  contents: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Network:
  """A network of what a file holds; ValueError or KeyError if it misfits."""
  layers = range(int(contents['layers']))
  network = Network(
    game=games.check_game(contents['game']),
    actions=tuple(int(action) for action in contents['actions']),
    decisions=int(contents['decisions']),
    trained_by=str(contents['trained_by']),
    mean=arrays['mean'],
    deviation=arrays['deviation'],
    weights=tuple(arrays[f'weight_{layer}'] for layer in layers),
    biases=tuple(arrays[f'bias_{layer}'] for layer in layers),
  )
  sizes = [LOOKS * MEMORY, *(len(bias) for bias in network.biases)]
  fitting = [
    weight.shape == (after, before)
    for weight, before, after in zip(
      network.weights, sizes[:-1], sizes[1:], strict=True
    )
  ]
  if not fitting or not all(fitting) or sizes[-1] != len(network.actions):
    raise ValueError(f'layers of {sizes} for {len(network.actions)} actions')
  if network.mean.shape != (sizes[0],) or network.deviation.shape != (
    sizes[0],
  ):
    raise ValueError('a mean or a deviation of another shape')
  if not set(network.actions) <= set(games.LEGAL_ACTIONS[network.game]):
    raise ValueError(f'actions {network.actions} that are not all legal')
  return network
