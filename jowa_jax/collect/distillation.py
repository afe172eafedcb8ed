"""Teaches a network that sees frames what one that sees memory plays.

What a player decides by memory can hinge on a byte that no pixel shows, or
shows too faintly; a student of its recordings sees no reason for it. So the
teacher is asked about what a network on frames runs into while that one plays
(DAgger: Ross et al., 2011, arXiv 1011.0686), and what the network can make of
the answers is what is recorded.
"""

import dataclasses
import math
import pathlib
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from jowa_jax.collect import networks
from jowa_jax.collect.networks import LOOKS, FrameNetwork, MemoryNetwork
from jowa_jax.envs import ale

# Channels, size and stride of each convolution, and the layer after them.
_CONVOLUTIONS = ((16, 8, 4), (32, 4, 2), (32, 3, 1))
_HIDDEN = 256
_WEIGHT_DECAY = 1e-2


@dataclasses.dataclass(frozen=True)
class StudentConfig:
  """How a student is taught.

  Attributes:
    rounds: times that the student plays and its teacher answers; before them
      the teacher plays a round of twice the length.
    decisions: of a round, of all environments together, each as many; all
      frames are kept in memory, 7 KiB a decision.
    steps: of gradient descent after each round.
    final_steps: of those at the end, when all answers are there.
    batch_size: answers of a step.
    learning_rate: at the beginning of each round's steps, which end at 0.
    environments: that play at once.
    max_episode_steps: decisions after which an episode is cut off.
    epsilon: the chance of a random decision of the student.
    teacher_epsilon: that of the teacher, in the round before the first.
    seed: of the weights and of all chance.
  """

  rounds: int = 8
  decisions: int = 8000
  steps: int = 1500
  final_steps: int = 4000
  batch_size: int = 64
  learning_rate: float = 1e-3
  environments: int = 16
  max_episode_steps: int = 1000
  epsilon: float = 0.05
  teacher_epsilon: float = 0.2
  seed: int = 0

  def __post_init__(self):
    for name in (
      *('rounds', 'steps', 'final_steps', 'batch_size'),
      *('environments', 'max_episode_steps'),
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    if self.decisions < self.environments:
      raise ValueError(
        f'decisions={self.decisions} leave some of {self.environments} '
        f'environments without any: give at least {self.environments}'
      )
    if self.seed < 0:
      raise ValueError(f'seed={self.seed} must not be negative')
    if self.learning_rate <= 0:
      raise ValueError(f'learning_rate={self.learning_rate} must be above 0')
    for name in ('epsilon', 'teacher_epsilon'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'{name}={getattr(self, name)} is no probability')


class Round(NamedTuple):
  """What a student showed before it learned from a round."""

  agreement: float  # share of its decisions that were its teacher's
  scores: list[float]  # unclipped, of the episodes that ended or were cut off


class _Student(nn.Module):
  """[B, 84, 84, 2] uint8 -> [B, A] logits: a `FrameNetwork` that can learn."""

  num_actions: int

  @nn.compact
  def __call__(self, pairs: jax.Array) -> jax.Array:
    x = pairs.astype(jnp.float32) / 255
    for index, (channels, size, stride) in enumerate(_CONVOLUTIONS):
      convolution = nn.Conv(
        *(channels, (size, size), (stride, stride)),
        padding='VALID',
        name=f'conv_{index}',
      )
      x = nn.relu(convolution(x))
    x = nn.relu(nn.Dense(_HIDDEN, name='dense_0')(x.reshape(len(x), -1)))
    return nn.Dense(self.num_actions, name='dense_1')(x)


class _Games:
  """Games that go on from round to round, and all that was seen of them."""

  def __init__(self, teacher: MemoryNetwork, config: StudentConfig):
    self._teacher, self._config = teacher, config
    self._envs = [ale.AleEnv(teacher.game) for _ in range(config.environments)]
    self._rng = np.random.default_rng(config.seed)
    self._memories = [np.empty(0)] * config.environments
    self._decisions = np.zeros(config.environments, int)
    self._score = np.zeros(config.environments)
    self._first = np.ones(config.environments, bool)
    # By decision, `count` of them. All environments decide at once, so that
    # the decision before that of a row is `environments` rows above it.
    size = config.decisions * (config.rounds + 2)
    self.frames = np.zeros((size, ale.FRAME_SIZE, ale.FRAME_SIZE), np.uint8)
    self.firsts = np.zeros(size, bool)
    self.answers = np.zeros((size, len(teacher.actions)), np.float32)
    self.count = 0
    self.scores: list[float] = []
    for row in range(config.environments):
      self._begin(row)

  def pairs(self, rows: np.ndarray) -> np.ndarray:
    """Frames before and at some decisions, [N, 84, 84, 2] uint8."""
    before = np.where(self.firsts[rows], rows, rows - len(self._envs))
    return np.stack([self.frames[before], self.frames[rows]], -1)

  def look(self) -> np.ndarray:
    """The rows of the decisions to be made now, with the teacher's answers."""
    rows = self.count + np.arange(len(self._envs))
    self.count += len(rows)
    self.frames[rows] = [env.frame for env in self._envs]
    self.firsts[rows] = self._first
    self.answers[rows] = self._teacher.logits(np.stack(self._memories))
    return rows

  def decide(self, chosen: np.ndarray, epsilon: float) -> None:
    """Makes the decisions, by index of the teacher's actions."""
    actions, count = self._teacher.actions, len(chosen)
    random = self._rng.random(count) < epsilon
    drawn = self._rng.integers(len(actions), size=count)
    for row, index in enumerate(np.where(random, drawn, chosen)):
      self._step(row, actions[index])

  def _begin(self, row: int) -> None:
    env = self._envs[row]
    env.reset()
    self._memories[row] = np.stack([self._teacher.look(env)] * LOOKS)
    self._decisions[row], self._score[row], self._first[row] = 0, 0.0, True

  def _step(self, row: int, action: int) -> None:
    env = self._envs[row]
    outcome = env.step(action)
    self._score[row] += outcome.reward
    self._decisions[row] += 1
    self._first[row] = False
    seen = [*self._memories[row][1:], self._teacher.look(env)]
    self._memories[row] = np.stack(seen)
    cut = self._decisions[row] >= self._config.max_episode_steps
    if outcome.terminated or outcome.truncated or cut:
      self.scores.append(float(self._score[row]))
      self._begin(row)


class _Learner:
  """A student's weights, and how they change."""

  def __init__(self, teacher: MemoryNetwork, config: StudentConfig):
    self._config = config
    model = _Student(len(teacher.actions))
    pairs = np.zeros((1, ale.FRAME_SIZE, ale.FRAME_SIZE, LOOKS), np.uint8)
    self.params = model.init(jax.random.key(config.seed), pairs)
    self._rng = np.random.default_rng([config.seed, 1])
    self._best = jax.jit(lambda params, x: model.apply(params, x).argmax(-1))

    def loss(params, pairs, answers):
      # The teacher's doubts are told, too: Rusu et al. (2016), 1511.06295.
      return optax.softmax_cross_entropy(
        model.apply(params, pairs), jax.nn.softmax(answers)
      ).mean()

    # The rate comes as an argument, so that all rounds share one program.
    optimizer = optax.inject_hyperparams(optax.adamw)(
      learning_rate=0.0, weight_decay=_WEIGHT_DECAY
    )
    self._init = optimizer.init

    def step(params, state, rate, pairs, answers):
      value, gradients = jax.value_and_grad(loss)(params, pairs, answers)
      state.hyperparams['learning_rate'] = rate
      updates, state = optimizer.update(gradients, state, params)
      return optax.apply_updates(params, updates), state, value

    self._step = jax.jit(step, donate_argnums=(0, 1))

  def best(self, pairs: np.ndarray) -> np.ndarray:
    """[N, 84, 84, 2] -> [N] indices of the likeliest actions."""
    return np.asarray(self._best(self.params, pairs))

  def learn(self, games: _Games, steps: int) -> float:
    """Takes some steps; returns the last loss."""
    state = self._init(self.params)
    for step in range(steps):
      rate = 0.5 * (1 + math.cos(math.pi * step / steps))
      rows = self._rng.integers(games.count, size=self._config.batch_size)
      self.params, state, loss = self._step(
        *(self.params, state, rate * self._config.learning_rate),
        *(games.pairs(rows), games.answers[rows]),
      )
    return float(loss)


def _play(
  config: StudentConfig,
  games: _Games,
  learner: _Learner | None,
  decisions: int,
) -> Round:
  """One round; of the teacher, which agrees with itself, without a learner."""
  known, agreed = len(games.scores), []
  for _ in range(decisions // config.environments):
    rows = games.look()
    answers = games.answers[rows].argmax(-1)
    chosen = learner.best(games.pairs(rows)) if learner else answers
    agreed.append(np.mean(chosen == answers))
    games.decide(chosen, config.epsilon if learner else config.teacher_epsilon)
  return Round(float(np.mean(agreed)), games.scores[known:])


def distill(
  config: StudentConfig, teacher: MemoryNetwork, output: pathlib.Path
) -> list[Round]:
  """Teaches a student and writes it to `output`, a file that it replaces.

  Tells how every round went in the log.

  Returns:
    What it showed in every round, before it learned from that round.
  """
  games = _Games(teacher, config)
  learner = _Learner(teacher, config)
  _play(config, games, None, 2 * config.decisions)
  rounds = []
  for number in range(config.rounds):
    loss = learner.learn(games, config.steps)
    rounds.append(_play(config, games, learner, config.decisions))
    recent = rounds[-1].scores
    logging.info(
      '%s, round %d of %d: loss %.3f, %.1f %% of decisions as its teacher, '
      'mean score %.1f of %d episodes',
      *(teacher.game, number + 1, config.rounds, loss),
      100 * rounds[-1].agreement,
      *(np.mean(recent) if recent else np.nan, len(recent)),
    )
  learner.learn(games, config.final_steps)
  networks.save(output, _network(teacher, games.count, learner.params))
  return rounds


def _network(
  teacher: MemoryNetwork, decisions: int, params: dict
) -> FrameNetwork:
  """What plays like a student's likeliest actions."""
  layers = jax.tree.map(np.asarray, params)['params']
  convolutions = [layers[f'conv_{i}'] for i in range(len(_CONVOLUTIONS))]
  dense = [layers['dense_0'], layers['dense_1']]
  return FrameNetwork(
    game=teacher.game,
    actions=teacher.actions,
    decisions=decisions,
    trained_by=f'DAgger by network {teacher.digest}: {teacher.trained_by}',
    strides=tuple(stride for _, _, stride in _CONVOLUTIONS),
    kernels=tuple(layer['kernel'] for layer in convolutions),
    kernel_biases=tuple(layer['bias'] for layer in convolutions),
    weights=tuple(layer['kernel'].T for layer in dense),
    biases=tuple(layer['bias'] for layer in dense),
  )
