"""The sliding context and epsilon-random actions, with toy models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.base import check_actions
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.types import TimeStep
from tests.methods import small

TASKS = np.array([small.PONG, small.FREEWAY, small.PONG], np.int32)
# Freeway allows 0, 2 and 5; action 17 is legal in neither game.
LEGAL = games.legal_mask()[TASKS]


def toy(context_length=3, epsilon=0.0, favourite=None):
  """Tokens are two pixels; the action is the n-th legal one, n the first."""

  def encode(variables, frames):
    del variables
    return frames[:, 0, :2].astype(jnp.int32)

  def decide(variables, context, legal, keys):
    del variables, keys
    if favourite is not None:
      actions = jnp.full(context.count.shape, favourite)
    else:
      number = context.seen[:, -1, :1] % legal.sum(-1, keepdims=True)
      rank = jnp.cumsum(legal, axis=-1) - 1
      actions = jnp.argmax((rank == number) & legal, axis=-1)
    return actions.astype(jnp.int32), {'context': context}

  tokens = jax.ShapeDtypeStruct((2,), jnp.int32)
  return history_policy(encode, decide, tokens, context_length, epsilon)


def timestep(number, first=(False,) * 3):
  """Frames whose first pixels are (number, 100 + environment)."""
  frames = np.zeros((3, 8, 8), np.uint8)
  frames[:, 0, 0], frames[:, 0, 1] = number, 100 + np.arange(3)
  return TimeStep(frames=jnp.asarray(frames), first=jnp.array(first))


def play(policy, steps, seed=0):
  """Returns (actions, contexts) of the steps."""
  state, actions, contexts = policy.init(TASKS), [], []
  for i, step in enumerate(steps):
    keys = jax.random.split(jax.random.key(1000 * seed + i), 3)
    action, state, info = policy.act(None, state, step, keys)
    actions.append(np.asarray(action))
    contexts.append(info['context'])
  return np.array(actions), contexts


@pytest.fixture(scope='module')
def greedy():
  return toy()


FIRST = timestep(0, (True,) * 3)


def test_the_context_slides_by_whole_blocks(greedy):
  steps = [FIRST] + [timestep(i) for i in range(1, 5)]
  actions, contexts = play(greedy, steps)
  for i, context in enumerate(contexts):
    count = min(i + 1, 3)
    np.testing.assert_array_equal(context.count, [count] * 3)
    frames = np.arange(i + 1)[-count:]
    for env in range(3):
      tokens = np.asarray(context.seen[env, -count:])
      np.testing.assert_array_equal(tokens[:, 0], frames)
      np.testing.assert_array_equal(tokens[:, 1], [100 + env] * count)
      # Each frame stands beside the action that was taken in it.
      np.testing.assert_array_equal(
        context.actions[env, -count:-1], actions[frames[:-1], env]
      )
  assert len(np.unique(actions)) > 3


def test_first_starts_one_environment_anew(greedy):
  steps = [
    FIRST,
    timestep(1),
    timestep(2, (False, True, False)),
    timestep(3),
  ]
  _, contexts = play(greedy, steps)
  counts = [context.count.tolist() for context in contexts]
  assert counts == [[1] * 3, [2] * 3, [3, 1, 3], [3, 2, 3]]
  assert contexts[3].seen[1, -2:, 0].tolist() == [2, 3]


def test_without_noise_the_key_does_not_matter(greedy):
  steps = [FIRST] + [timestep(i) for i in range(1, 4)]
  one, _ = play(greedy, steps, seed=0)
  two, _ = play(greedy, steps, seed=1)
  np.testing.assert_array_equal(one, two)
  for step, row in enumerate(one):
    for env, action in enumerate(row):
      legal = np.flatnonzero(LEGAL[env])
      assert action == legal[step % len(legal)]


def test_epsilon_one_plays_every_legal_action_and_no_other():
  # What the model wants is illegal, and never gets played.
  policy = toy(epsilon=1.0, favourite=17)
  steps = [FIRST] + [timestep(i % 250) for i in range(150)]
  actions, _ = play(policy, steps)
  assert actions.dtype == np.int32
  for env in range(3):
    played, counts = np.unique(actions[:, env], return_counts=True)
    assert played.tolist() == np.flatnonzero(LEGAL[env]).tolist()
    assert counts.min() > 0.4 * len(steps) / len(played)
  # The environments draw for themselves.
  assert (actions[:, 0] != actions[:, 2]).any()


def test_noise_replaces_a_share_epsilon_and_is_remembered():
  policy = toy(epsilon=0.3, favourite=0)
  actions, contexts = play(policy, [FIRST] + [timestep(1)] * 299)
  # A sixth, or a third in Freeway, of the random actions are 0 too.
  share = (actions[:, [0, 2]] != 0).mean()
  assert abs(share - 0.3 * 5 / 6) < 0.06
  for i in (100, 200, 299):
    np.testing.assert_array_equal(
      np.asarray(contexts[i].actions)[:, :-1].T, actions[i - 2 : i]
    )


def test_acts_without_retracing(greedy):
  before = greedy.act._cache_size()
  play(greedy, [FIRST] + [timestep(i) for i in range(5)])
  assert greedy.act._cache_size() == max(before, 1) == 1


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'context_length': 0}, 'context_length=0'),
    ({'context_length': -2}, 'context_length=-2'),
    ({'epsilon': -0.1}, 'epsilon=-0.1'),
    ({'epsilon': 1.5}, 'epsilon=1.5'),
  ],
)
def test_bad_options_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    toy(**options)


def test_no_action_stays_none_whatever_the_noise():
  policy = toy(epsilon=1.0, favourite=-1)
  actions, _ = play(policy, [FIRST])
  assert (actions == -1).all()
  with pytest.raises(
    FloatingPointError, match='Freeway, Pong: .* diverged.* no legal action'
  ):
    check_actions(actions[0], TASKS)
  np.testing.assert_array_equal(check_actions(np.arange(3), TASKS), [0, 1, 2])


def test_past_rewards_stand_at_the_actions_that_earned_them():
  def decide(variables, history, legal, keys):
    del variables, legal, keys
    return jnp.zeros(3, jnp.int32), {'context': history}

  policy = history_policy(
    lambda variables, frames: frames[:, 0, 0],
    decide,
    jax.ShapeDtypeStruct((), jnp.uint8),
    length=3,
    epsilon=0.0,
    reads_rewards=True,
  )
  # What comes with a frame was earned by the decision before it.
  steps = [
    timestep(i, (i in (0, 4),) * 3).replace(
      rewards=jnp.array([i, 10.0 * i, -i]) * (i not in (0, 4))
    )
    for i in range(6)
  ]
  _, histories = play(policy, steps)
  rows = [history.rewards[1].tolist() for history in histories]
  assert rows[:4] == [[0, 0, 0], [0, 10, 0], [10, 20, 0], [20, 30, 0]]
  # An episode began: what stood before is not counted.
  assert histories[4].count.tolist() == [1] * 3
  assert rows[5][1:] == [50, 0] and histories[5].count.tolist() == [2] * 3
  with pytest.raises(ValueError, match='rewards of the decisions before: give'):
    play(policy, [timestep(0, (True,) * 3)])
  assert history_policy(None, None, (), 3, 0.0).init(TASKS).rewards is None


def test_a_history_keeps_whatever_is_made_of_frames():
  """Such as the frames, for a Q network that stacks them."""

  def observe(variables, frames):
    return {'frames': frames, 'mean': frames.mean((1, 2)) + variables}

  def decide(variables, history, legal, keys):
    del variables, keys
    stack = history.seen['frames']  # [E, C, H, W]
    actions = jnp.where(legal, stack[:, :, 0, 0].sum(1)[:, None], 0).argmax(-1)
    return actions, {'context': history}

  keeps = {
    'frames': jax.ShapeDtypeStruct((8, 8), jnp.uint8),
    'mean': jax.ShapeDtypeStruct((), jnp.float32),
  }
  policy = history_policy(observe, decide, keeps, length=2, epsilon=0.0)
  state = policy.init(TASKS)
  for i in range(3):
    step = timestep(i + 1, (i == 0,) * 3)
    keys = jax.random.split(jax.random.key(i), 3)
    _, state, info = policy.act(jnp.float32(0.5), state, step, keys)
  seen = info['context'].seen
  assert seen['frames'].dtype == jnp.uint8
  assert seen['frames'].shape == (3, 2, 8, 8)
  assert seen['frames'][:, :, 0, 0].tolist() == [[2, 3]] * 3
  # Of 64 pixels: the number of the step, and 100 and more.
  expected = [[(number + 100) / 64 + 0.5 for number in (2, 3)]]
  np.testing.assert_allclose(seen['mean'][:1], expected)


@pytest.mark.slow
def test_decisions_draw_with_their_environments_keys():
  def decide(variables, history, legal, keys):
    del variables, history
    logits = jnp.where(legal, 0.0, -jnp.inf)
    draws = jax.vmap(jax.random.categorical)(keys, logits)
    return draws, {'context': draws}

  def policy(epsilon):
    keeps = jax.ShapeDtypeStruct((), jnp.uint8)
    observe = lambda variables, frames: frames[:, 0, 0]  # noqa: E731
    return history_policy(observe, decide, keeps, 1, epsilon)

  steps = [timestep(0)] * 200
  drawn, _ = play(policy(0.0), steps)
  again, _ = play(policy(0.0), steps)
  np.testing.assert_array_equal(drawn, again)
  for env in range(3):
    assert set(drawn[:, env]) == set(np.flatnonzero(LEGAL[env]))
  assert (drawn[:, 0] != drawn[:, 2]).mean() > 0.5
  # Random actions come on top, and are drawn by themselves.
  mixed, draws = play(policy(0.5), steps)
  np.testing.assert_array_equal(draws, drawn)
  changed = (mixed != drawn)[:, [0, 2]].mean()
  assert abs(changed - 0.5 * 5 / 6) < 0.08
