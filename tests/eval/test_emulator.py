"""The beam over the real emulator, against brute force and real play."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.envs.ale import AleEnv
from jowa_jax.eval.emulator import (
  Branches,
  Eyes,
  Place,
  emulator_world,
  make_viewer,
)
from jowa_jax.methods import jowa_dreams
from jowa_jax.methods.factory import method_config
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import History
from tests.eval.small_agent import CONFIG, make_agent

GAME, GAMMA = 'Assault', 0.9
LEGAL = games.LEGAL_ACTIONS[GAME]
MASK = games.legal_mask()[[games.task_id(GAME)]]


def fake_q(frame: np.ndarray) -> np.ndarray:
  """Any function of the pixels, [18]."""
  seed = int(frame.astype(np.int64).sum())
  return np.random.default_rng(seed).normal(size=18).astype(np.float32)


def fake_look(seen, frames, actions):
  tokens = jnp.zeros((len(frames), 1), jnp.int32)
  q = np.stack([fake_q(frame) for frame in frames])
  return tokens, jnp.asarray(q), seen


FAKE = Eyes(look=fake_look, take_rows=lambda seen, rows: seen)


def after_random_play(decisions: int) -> tuple[AleEnv, np.ndarray]:
  env, rng = AleEnv(GAME), np.random.default_rng(decisions)
  frame = env.reset()
  for action in rng.choice(LEGAL, decisions):
    frame = env.step(int(action)).frame
  return env, frame


def search(world, env, frame, **how):
  places = Branches((Place(env.clone_state(), frame),), None)
  q = jnp.asarray(fake_q(frame))[None]
  return beam_search(world, q, places, MASK, gamma=GAMMA, **how)


def best_legal(frame):
  return max(fake_q(frame)[action] for action in LEGAL)


@pytest.mark.slow
@pytest.mark.parametrize('decisions', [0, 90])
def test_a_full_beam_finds_what_brute_force_does(decisions):
  env, frame = after_random_play(decisions)
  plan = search(
    emulator_world(AleEnv(GAME), FAKE), env, frame, width=18, horizon=2
  )
  scores = {}
  for pair in itertools.product(LEGAL, repeat=2):
    # Nothing is cloned: the game is played again from its beginning.
    other, _ = after_random_play(decisions)
    first, second = (other.step(int(action)) for action in pair)
    rewards = np.sign(first.reward) + GAMMA * np.sign(second.reward)
    scores[pair] = rewards + GAMMA**2 * best_legal(second.frame)
  best = max(scores, key=scores.get)
  assert tuple(plan.paths[0, 0]) == best and plan.action[0] == best[0]
  assert plan.scores[0, 0] == pytest.approx(scores[best], abs=1e-5)
  found = {
    tuple(map(int, path)): float(score)
    for path, score in zip(plan.paths[0], plan.scores[0], strict=True)
    if np.isfinite(score)
  }
  kept = sorted(scores.values(), reverse=True)[: len(found)]
  np.testing.assert_allclose(sorted(found.values(), reverse=True), kept, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('width, horizon', [(3, 0), (1, 3)])
def test_no_search_is_greedy(width, horizon):
  world = emulator_world(AleEnv(GAME), FAKE)
  for decisions in (0, 30):
    env, frame = after_random_play(decisions)
    greedy = max(LEGAL, key=lambda action: fake_q(frame)[action])
    assert (
      search(world, env, frame, width=width, horizon=horizon).action[0]
      == greedy
    )


@pytest.mark.slow
def test_play_with_a_search_is_that_of_its_actions():
  env, scratch, replayed = (AleEnv(GAME) for _ in range(3))
  frame = env.reset()
  np.testing.assert_array_equal(replayed.reset(), frame)
  world = emulator_world(scratch, FAKE)
  rewards = 0
  for _ in range(60):
    plan = search(world, env, frame, width=3, horizon=3)
    action = int(plan.action[0])
    outcome, other = env.step(action), replayed.step(action)
    np.testing.assert_array_equal(outcome.frame, other.frame)
    assert outcome[1:] == other[1:]
    # What was foreseen comes: the first reward of the best path.
    assert plan.rewards[0, 0, 0] == np.sign(outcome.reward)
    frame, rewards = outcome.frame, rewards + abs(outcome.reward)
  assert rewards > 0


class Counter:
  """A game of numbers: reaching 3 ends it, with a reward of 5."""

  def reset(self):
    self.count = 0
    return self.frame()

  def frame(self):
    return np.full((84, 84), self.count, np.uint8)

  def step(self, action):
    assert self.count < 3
    self.count += action
    over = self.count >= 3
    reward = 5 if over else -2
    return Outcome(self.frame(), reward, over, False)

  def clone_state(self):
    return self.count

  def restore_state(self, state):
    self.count = state


class Outcome(tuple):
  def __new__(cls, *parts):
    return super().__new__(cls, parts)

  frame = property(lambda self: self[0])
  reward = property(lambda self: self[1])
  terminated = property(lambda self: self[2])
  truncated = property(lambda self: self[3])


@pytest.mark.parametrize('count_ends', [True, False])
def test_after_the_end_nothing_follows(count_ends):
  def look(seen, frames, actions):
    q = jnp.asarray(frames[:, 0, :3], jnp.float32)
    return jnp.zeros((len(frames), 1), jnp.int32), q, seen

  world = emulator_world(
    Counter(), Eyes(look, lambda seen, rows: seen), count_ends
  )
  root = Branches((Place(1, np.full((84, 84), 1, np.uint8)),), None)
  first = world.dream(root, jnp.array([1, 2, 2]))
  np.testing.assert_array_equal(first.reward, [-1, 1, 1])
  np.testing.assert_array_equal(first.end, [0, 1, 1])
  # The end shows the frame before it.
  end = 0 if count_ends else 1
  np.testing.assert_array_equal(first.q[:, 0], [2, end, end])
  second = world.dream(first.memory, jnp.array([0, 1, 1, 1, 2, 2]))
  np.testing.assert_array_equal(second.reward, [-1, 1, 0, 0, 0, 0])
  taken = world.take_rows(second.memory, jnp.array([2, 0]))
  assert [place.state for place in taken.places] == [3, 2]
  with pytest.raises(ValueError, match='no key'):
    world.dream(root, jnp.array([1]), jax.random.key(0))


@pytest.mark.slow
def test_leaves_are_valued_after_the_true_context():
  agent = make_agent()
  model = method_config(CONFIG).model
  task = games.task_id(GAME)
  viewer = make_viewer(agent, [task, task])
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (6, 84, 84)).astype(np.uint8)
  encode = jax.jit(agent.method.tokenizer.encode)
  tokens = np.asarray(encode(agent.variables, frames))
  context = History(
    seen=jnp.asarray(tokens[:2, None]),
    actions=jnp.zeros((2, 1), jnp.int32),
    count=jnp.ones(2, jnp.int32),
    tasks=jnp.array([task, task]),
  )
  memory, _ = viewer.remember(context)
  # Two frames after each of two; then one after the second of each.
  seen_tokens, q, memory = viewer.eyes.look(
    memory, frames[2:], jnp.array([2, 3, 4, 5])
  )
  np.testing.assert_array_equal(seen_tokens, tokens[2:])
  memory = viewer.eyes.take_rows(memory, jnp.array([1, 3]))
  _, leaf_q, _ = viewer.eyes.look(memory, frames[:2], jnp.array([6, 7]))
  whole = History(
    seen=jnp.asarray(tokens[[[0, 3, 0], [1, 5, 1]]]),
    actions=jnp.array([[3, 6, 0], [5, 7, 0]]),
    count=jnp.full(2, 3),
    tasks=context.tasks,
  )
  read = jax.jit(
    lambda c: jowa_dreams.remember(model, agent.variables.params, c)[1]
  )
  np.testing.assert_allclose(leaf_q, read(whole), atol=1e-4)
  part = whole.replace(
    seen=whole.seen[:, :2],
    actions=whole.actions[:, :2],
    count=jnp.full(2, 2),
  )
  np.testing.assert_allclose(q[jnp.array([1, 3])], read(part), atol=1e-4)
