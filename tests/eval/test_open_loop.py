"""Dreams beside what really followed: by hand, and with a real, small model."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import jowa
from jowa_jax import games
from jowa_jax.agent import Agent
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.eval import open_loop, quality
from jowa_jax.methods.base import (
  Foresight,
  Simulator,
  Tokenizer,
  Variables,
)
from jowa_jax.methods.factory import make_method
from jowa_jax.plan.base import Dream, WorldModel
from tests import compilations
from tests.models import random_params

CONFIG = jowa.get_config('smoke').to_dict()
BLOCKS = make_method(CONFIG).simulator.max_steps
PLACES = 36
# Of the dreams of the real, small model.
HORIZON, COUNT = 2, 8


def episode(frames, rewards=None, actions=None, game='Pong', terminated=True):
  length = len(frames)
  if rewards is None:
    rewards = np.zeros(length)
  if actions is None:
    actions = np.arange(length)
  return episodes_lib.Episode(
    game=game,
    task=games.task_id(game),
    run=1,
    checkpoint=0,
    episode_id=0,
    frames=[episodes_lib.encode_png(frame) for frame in frames],
    actions=np.asarray(actions, np.uint8),
    rewards=np.asarray(rewards, np.int8),
    score=0.0,
    terminated=terminated,
    digest=b'',
  )


def grey(length):
  """Frame t is of the grey 10 t."""
  return np.repeat(np.arange(length, dtype=np.uint8) * 10, 84 * 84).reshape(
    -1, 84, 84
  )


@pytest.fixture
def by_hand():
  """A world that can be followed on paper; gives the agent and the traces.

  All tokens of a frame of grey 10 t are t; they decode to 10 t + 1. Dreams are
  right about the first frame and then stand still. Action 2 is taken to be
  rewarded; it is taken to end the episode, and so is action 6 in frame 6.
  """
  traces = []

  def encode(variables, frames):
    return frames[..., 0, :PLACES].astype(jnp.int32) // 10

  def decode(variables, tokens):
    frames = (10 * tokens[..., :1, None] + 1).astype(jnp.uint8)
    return jnp.broadcast_to(frames, (*tokens.shape[:-1], 84, 84))

  def q(tokens):
    return jnp.zeros((len(tokens), 18))

  def remember(variables, context):
    traces.append(context.seen.shape)
    last = context.seen[:, -1]
    # The frame that all dreams show.
    return last + 1, q(last)

  def dream(memory, actions, key):
    return Dream(
      reward=(actions == 2).astype(jnp.float32),
      tokens=memory,
      q=q(memory),
      memory=memory,
      runs=jnp.zeros((len(memory), 1), jnp.int32),
    )

  def foresee(variables, tokens, actions, tasks):
    ends = (actions == 2) | (actions == 6) & (tokens[..., 0] == 6)
    event = actions / 10.0
    return Foresight(
      tokens=None,
      rewards=jnp.stack([event / 2, 1 - event, event / 2], axis=-1),
      ends=ends.astype(jnp.float32),
    )

  method = SimpleNamespace(
    tokenizer=Tokenizer((), encode, decode, 0, 0.0),
    simulator=Simulator(
      max_steps=BLOCKS,
      gamma=0.9,
      remember=remember,
      world=lambda variables, tasks: WorldModel(dream, take_rows=None),
      foresee=foresee,
      search=None,
    ),
  )
  variables = Variables(params={}, targets={}, extras={})
  return Agent(CONFIG, method, variables, 0), traces


def test_curves_by_hand(by_hand):
  agent, _ = by_hand
  # Sequences begin at 0, 1, 2 and 3, with two frames known; the actions of the
  # first dreamed step are 1, 2, 3 and 4, those of the second 2, 3, 4 and 5.
  # Those that run into the end, by action 6, begin at 5 and at 4.
  played = episode(grey(7), rewards=[0, 0, 1, 1, 0, -1, 0])
  curves = open_loop.open_loop(
    agent, [played], context=2, horizon=2, batch_size=4
  )
  assert list(curves) == ['Pong']
  assert curves['Pong'] == {
    'changed_token_share': [1, 1],
    'token_accuracy': [1, 0],
    'copy_token_accuracy': [0, 0],
    # No token stays, so that there is no share of those that do.
    'changed_token_accuracy': [1, 0],
    'reward_accuracy': [3 / 4, 2 / 4],
    'nonzero_reward_recall': [1 / 2, pytest.approx(1 / 3)],
    'nonzero_reward_precision': [1, 1],
    # Scores rise with the action: 2 and 3 are third and second of 1 to 4, then
    # 5, 3 and 2 are first, third and last of 5 to 2.
    'reward_average_precision': [
      pytest.approx((1 / 2 + 2 / 3) / 2),
      pytest.approx((1 + 2 / 3 + 3 / 4) / 3),
    ],
    'reward_recall_at_half': [1, 1],
    'reward_best_f1': [pytest.approx(4 / 5), pytest.approx(6 / 7)],
    'reward_best_threshold': [pytest.approx(0.2), pytest.approx(0.2)],
    'end_accuracy': [4 / 5, 4 / 5],
    'end_recall': [1, 1],
    'false_end_share': [1 / 4, 1 / 4],
    'pixel_error': pytest.approx([1 / 255, 9 / 255]),
    'persistence_pixel_error': pytest.approx([10 / 255, 20 / 255]),
    'reconstruction_error': pytest.approx([1 / 255, 1 / 255]),
  }
  for curve in curves['Pong'].values():
    assert all(type(value) is float for value in curve)


def test_where_nothing_is_to_be_right_about(by_hand):
  agent, _ = by_hand
  rewards = [0, 0, 1, 0]  # of the action to the second dreamed frame alone
  played = episode(grey(4), rewards, terminated=False)
  curves = open_loop.open_loop(agent, [played], 2, 2)['Pong']
  assert curves['nonzero_reward_recall'] == [None, 1]
  assert curves['end_accuracy'] == [1, 0] and 'end_recall' not in curves
  quiet = episode(grey(4), terminated=False)
  curves = open_loop.open_loop(agent, [quiet], 2, 2)['Pong']
  assert 'nonzero_reward_recall' not in curves


def test_all_batches_of_all_games_are_one_program(by_hand, caplog):
  agent, traces = by_hand
  played = [
    episode(grey(9), game='Pong'),
    episode(grey(17), game='Assault'),
    episode(grey(3), game='Carnival'),
  ]
  with compilations.counted() as compiled:
    curves = open_loop.open_loop(agent, played, 1, batch_size=3)
  assert compiled['run'] == 1 and traces == [(3, 1, PLACES)]
  assert list(curves) == ['Assault', 'Pong']
  assert f'No held-out episode of Carnival has {BLOCKS} steps' in caplog.text
  for name in ('token_accuracy', 'pixel_error', 'end_accuracy'):
    assert len(curves['Pong'][name]) == BLOCKS - 1
  # How sequences fall into batches changes nothing.
  assert open_loop.open_loop(agent, played, 1, batch_size=50) == curves


@pytest.mark.parametrize('context, horizon', [(0, 1), (1, 0), (1, BLOCKS)])
def test_no_room(by_hand, context, horizon):
  with pytest.raises(ValueError, match=f'={context} and horizon={horizon} .*1'):
    open_loop.open_loop(by_hand[0], [], context, horizon)


@pytest.fixture(scope='module')
def agent():
  """With random parameters, and a head of ends that says 'a reward of 1'."""
  method = make_method(CONFIG)
  shapes = variable_shapes(method)
  params = random_params.fill(shapes.params, seed=1)
  heads = params['world_heads']
  last = heads['rewards']['dense_2']
  # Never 0; -1 is no end, 1 is one.
  last['bias'] = last['bias'].at[1].set(-1e9)
  heads['ends'] = {
    'dense_0': heads['rewards']['dense_0'],
    'dense_2': {name: x[..., ::2] for name, x in last.items()},
  }
  variables = Variables(params=params, targets={}, extras={})
  return Agent(CONFIG, method, variables, 0)


@pytest.fixture(scope='module')
def random_play():
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (20, 84, 84)).astype(np.uint8)
  return episode(
    frames,
    rng.integers(-1, 2, 20),
    rng.choice(games.LEGAL_ACTIONS['Pong'], 20),
    terminated=False,
  )


@pytest.mark.slow
def test_first_and_last_step_are_those_of_dream(agent, random_play):
  metrics, pictures = quality.dream(agent, [random_play], HORIZON, COUNT)[
    'Pong'
  ]
  # Nothing ends: the batch is one, and as large as that of `dream`.
  curves = open_loop.open_loop(
    *(agent, [random_play], BLOCKS - HORIZON, HORIZON), COUNT, batch_size=COUNT
  )['Pong']
  for name in ('token_accuracy', 'copy_token_accuracy', 'false_change_share'):
    first, last = curves[name]
    assert first == metrics[name] and last == metrics[f'{name}_at_horizon']
  assert np.mean(curves['reward_accuracy']) == metrics['reward_accuracy']
  # The pictures are of six of the eight.
  for frames in pictures:
    assert frames.shape == (6, 1 + HORIZON, 84, 84)
  assert np.all(np.array(curves['persistence_pixel_error']) > 0.2)


@pytest.mark.slow
def test_ends_are_read_where_rewards_are(agent, random_play):
  real = open_loop.sequences([random_play], BLOCKS, COUNT)
  run = open_loop.dreamer(agent, BLOCKS - HORIZON, HORIZON)
  dreamed = jax.device_get(
    run(agent.variables, real.frames, real.actions, random_play.task)
  )
  assert dreamed.rewards.shape == dreamed.ends.shape == (COUNT, HORIZON)
  assert set(dreamed.rewards.ravel()) == {-1, 1}
  np.testing.assert_array_equal(dreamed.ends, dreamed.rewards > 0)
