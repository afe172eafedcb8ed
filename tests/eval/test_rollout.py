import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs, rollout_seed
from jowa_jax.eval import progress as progress_lib
from jowa_jax.eval import rollout as rollout_lib
from jowa_jax.methods.base import Policy

SHORT = Protocol(rollouts=3, max_frames=240)


def _evaluate(policy=None, protocol=SHORT, seed=0, **kwargs):
  arguments = dict(
    games=['Assault', 'Carnival'],
    agent='random',
    progress=False,
    num_threads=1,
  )
  policy = policy or rollout_lib.random_policy()
  return rollout_lib.evaluate(
    policy, None, protocol=protocol, seed=seed, **(arguments | kwargs)
  )


def _scripted_policy(action, calls):
  """Plays one action and notes what it is shown."""

  def init(tasks):
    return jnp.zeros(len(tasks), jnp.int32)

  def act(variables, state, time_step, keys):
    del variables, keys
    state = jnp.where(time_step.first, 0, state + 1)
    calls.append((time_step.frames, time_step.first, np.asarray(state)))
    actions = jnp.full(state.shape, action, jnp.int32)
    return actions, state, {}

  return Policy(init=init, act=act)


def _without_seconds(rollouts):
  return [dataclasses.replace(r, seconds=0.0) for r in rollouts]


def test_random_policy_plays_every_legal_action_and_no_other():
  policy = rollout_lib.random_policy()
  tasks = np.array([games.task_id('Atlantis'), games.task_id('Skiing')])
  state = policy.init(np.repeat(tasks, 200))
  keys = jax.random.split(jax.random.key(0), 400)
  actions, _, _ = policy.act(None, state, None, keys)
  assert actions.dtype == jnp.int32
  assert set(np.asarray(actions[:200])) == {0, 1, 11, 12}
  assert set(np.asarray(actions[200:])) == {0, 3, 4}


def test_every_rollout_is_recorded_once():
  rollouts = _evaluate()
  assert [(r.game, r.rollout) for r in rollouts] == [
    (game, i) for game in ('Assault', 'Carnival') for i in range(3)
  ]
  for r in rollouts:
    assert r.agent == 'random' and r.seed == rollout_seed(0, r.game, r.rollout)
    assert r.decisions == 60 and r.frames == 240 and not r.terminated
    assert r.seconds > 0
  # Ten or more points a hit, so the two sums differ.
  assert any(r.score > r.clipped_score > 0 for r in rollouts)


@pytest.mark.slow
def test_same_seed_same_scores():
  first, again, other = _evaluate(), _evaluate(), _evaluate(seed=1)
  assert _without_seconds(first) == _without_seconds(again)
  assert [r.score for r in first] != [r.score for r in other]


def test_scores_match_a_plain_loop():
  """One slot, one game: the same keys and emulator seeds give the same sum."""
  protocol = Protocol(rollouts=2, max_frames=240, sticky_actions=0.25)
  (_, actual) = _evaluate(
    games=['Carnival'], protocol=protocol, seed=5, slots_per_game=1
  )
  policy = rollout_lib.random_policy()
  envs = AtariEnvs(['Carnival'], 1, protocol, num_threads=1)
  time_step = envs.reset(5, np.array([1]))
  state = policy.init(envs.tasks)
  score = clipped = 0.0
  key = jax.random.fold_in(jax.random.key(5), games.task_id('Carnival'))
  key = jax.random.fold_in(key, 1)
  for step in range(60):
    keys = jax.random.fold_in(key, step)[None]
    actions, state, _ = policy.act(None, state, time_step, keys)
    time_step, rewards, *_ = envs.step(np.asarray(actions))
    score += rewards[0]
    clipped += np.clip(rewards[0], -1, 1)
  assert (actual.score, actual.clipped_score) == (score, clipped)
  assert score > 0


@pytest.mark.slow
def test_what_is_done_changes_nothing_of_the_rest():
  every = _without_seconds(_evaluate(slots_per_game=2))
  done = {('Assault', 0), ('Assault', 1), ('Assault', 2), ('Carnival', 2)}
  rest = _without_seconds(_evaluate(slots_per_game=2, done=done))
  assert rest == [r for r in every if (r.game, r.rollout) not in done]
  assert _evaluate(done={(r.game, r.rollout) for r in every}) == []


@pytest.mark.slow
def test_chosen_rollouts_are_those_of_all():
  every = _without_seconds(_evaluate())
  chosen = _without_seconds(_evaluate(numbers=[2, 0]))
  assert chosen == [r for r in every if r.rollout != 1]
  with pytest.raises(ValueError, match='distinct'):
    _evaluate(numbers=[1, 1])


@pytest.mark.slow
def test_queueing_keeps_the_batch_shape_and_resets_the_context():
  calls = []
  rollouts = _evaluate(_scripted_policy(0, calls), slots_per_game=2)
  assert [(r.game, r.rollout) for r in rollouts] == [
    (game, i) for game in ('Assault', 'Carnival') for i in range(3)
  ]
  assert {frames.shape for frames, _, _ in calls} == {(4, 84, 84)}
  # Two rounds of 60 decisions: no call is wasted on terminal frames.
  assert len(calls) == 120
  firsts = np.flatnonzero([first[0] for _, first, _ in calls])
  assert firsts.tolist() == [0, 60]
  # Slots 1 and 3 idle in the second round; 0 and 2 always play.
  assert max(age[[0, 2]].max() for _, _, age in calls) == 59


@pytest.mark.slow
def test_a_batch_that_shrinks_plays_the_same():
  calls = []
  policy = _scripted_policy(0, calls)
  assert _without_seconds(
    _evaluate(policy, slots_per_game=2, shrink=True)
  ) == _without_seconds(_evaluate(policy, slots_per_game=2))
  sizes = [len(first) for _, first, _ in calls]
  # In the second round one slot of each game plays.
  assert sizes == [4] * 60 + [2] * 60 + [4] * 120
  (frames, _, _), (whole, _, _) = calls[100], calls[220]
  np.testing.assert_array_equal(frames, np.asarray(whole)[[0, 2]])
  # What each remembers goes with it.
  assert calls[119][2].tolist() == [59, 59]
  random = _without_seconds(_evaluate(slots_per_game=2, shrink=True))
  assert random == _without_seconds(_evaluate(slots_per_game=2))


@pytest.mark.slow
def test_complete_episodes_of_a_real_game_end_in_game_over():
  rollouts = _evaluate(
    games=['Assault'], protocol=Protocol(rollouts=4), slots_per_game=4
  )
  assert all(r.terminated for r in rollouts)
  assert len({r.decisions for r in rollouts}) > 1
  for r in rollouts:
    assert 4 * (r.decisions - 1) < r.frames <= 4 * r.decisions
    assert r.score % 21 == 0 and r.score == 21 * r.clipped_score


@pytest.mark.slow
def test_the_policy_sees_what_its_actions_led_to():
  calls = []
  _evaluate(_scripted_policy(11, calls), slots_per_game=1)
  for slot, game in enumerate(('Assault', 'Carnival')):
    envs = AtariEnvs([game], 1, num_threads=1)
    time_step = envs.reset(0)
    for frames, _, _ in calls[:20]:
      np.testing.assert_array_equal(frames[slot], time_step.frames[0])
      time_step, *_ = envs.step(np.array([11]))


@pytest.mark.slow
def test_progress_bar_says_what_runs(capfd):
  _evaluate(progress=True)
  shown = capfd.readouterr().err
  assert 'evaluate random' in shown and '6/6' in shown
  assert 'decision/s' in shown and 'Carnival ' in shown


def test_slots_are_checked():
  for slots in (0, 4):
    with pytest.raises(ValueError, match=rf'slots_per_game is {slots}.*1\.\.3'):
      _evaluate(slots_per_game=slots)


def test_how_many_decisions_to_expect():
  expect = progress_lib.expected_decisions
  # Nothing ended: as long again as so far, the waiting ones like the others.
  assert expect([], [100, 300], 2, 900) == 800
  assert expect([], [100, 300], 3, 900) == 1200
  # Two ended after 150 on average: the running ones reach a multiple of it.
  assert expect([100, 200], [50, 400], 4, 900) == 300 + 150 + 450
  assert expect([100, 200], [150, 400], 5, 900) == 300 + 300 + 450 + 150
  assert expect([100, 200], [], 2, 900) == 300
  # No episode is longer than the rules allow.
  assert expect([], [100, 300], 3, 400) == 200 + 400 + 300
  assert expect([100, 200], [50, 400], 4, 420) == 300 + 150 + 420
