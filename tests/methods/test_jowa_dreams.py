"""Dreaming and planning with a real, small, random model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.jowa_dreams import (
  DECODERS,
  choose_decoder,
  imagine,
  remember,
  world_model,
)
from jowa_jax.models import world_action
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.world_action import ReturnConfig, WorldActionConfig
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import History
from tests.cases import quick
from tests.models import random_params

CONFIG = WorldActionConfig(
  backbone=BackboneConfig(
    num_layers=2,
    width=16,
    num_heads=2,
    vocab_size=13,
    tokens_per_frame=3,
    max_blocks=6,
  ),
  heads=HeadSizes(num_heads=2, width=12),
  returns=ReturnConfig(num_atoms=5, v_min=-2.0, v_max=2.0),
)
CONTEXT, HORIZON = 4, 2
TASKS = np.array(
  [games.task_id(name) for name in ('Pong', 'Assault', 'Zaxxon', 'Freeway')],
  np.int32,
)
COUNT = np.array([1, 4, 2, 3], np.int32)


@pytest.fixture(scope='module')
def params():
  """Random, and large enough for dreams that differ from place to place."""
  return random_params.like(
    lambda key: world_action.init(CONFIG, key), std=0.25
  )


def contexts(seed, **changes):
  rng = np.random.default_rng(seed)
  envs = len(TASKS)
  context = History(
    seen=rng.integers(0, 13, (envs, CONTEXT, 3)).astype(np.int32),
    actions=rng.integers(0, 18, (envs, CONTEXT)).astype(np.int32),
    count=COUNT,
    tasks=TASKS,
  )
  return context.replace(**changes)


@functools.partial(jax.jit, static_argnames=('width', 'decoder'))
def plan(params, context, width=3, decoder='parallel'):
  memory, q = remember(CONFIG, params, context)
  return beam_search(
    world_model(CONFIG, params, context.tasks, decoder=decoder),
    q,
    memory,
    jnp.asarray(games.legal_mask())[context.tasks],
    width=width,
    horizon=HORIZON,
    gamma=CONFIG.returns.gamma,
  )


@jax.jit
def whole(params, ids, tasks):
  """Everything the model says of padded ids [B, tokens], without a cache."""
  blocks = ids.reshape(ids.shape[0], -1, CONFIG.backbone.block_size)
  hidden = world_action.hidden_states(
    CONFIG.backbone,
    params['backbone'],
    blocks[..., :-1],
    blocks[..., -1],
    tasks,
  )
  logits = world_action.world_logits(
    CONFIG.backbone, params['world_heads'], hidden
  )
  read = world_action.at_last_observation(CONFIG.backbone, hidden)
  return logits, world_action.q_values(CONFIG, params['q_heads'], read)


@pytest.mark.slow
def test_what_is_seen_is_read_as_what_is_dreamed(params):
  """Shown the frames that it dreams, a memory comes to the same."""
  context = contexts(2)
  actions = jnp.array([3, 0, 5, 2], jnp.int32)

  @jax.jit
  def both(params):
    memory, _ = remember(CONFIG, params, context)
    model = world_model(CONFIG, params, context.tasks)
    dreamed = model.dream(memory, actions, None)
    return dreamed, model.observe(memory, actions, dreamed.tokens)

  dreamed, (q, memory) = both(params)
  np.testing.assert_allclose(q, dreamed.q, atol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
    memory,
    dreamed.memory,
  )
  # The end is what the whole sequence, uncached, says of the last action.
  for env, count in enumerate(COUNT):
    ids = np.zeros((1, CONFIG.backbone.max_tokens), np.int32)
    blocks = np.concatenate(
      [context.seen[env, -count:], context.actions[env, -count:, None]],
      axis=1,
    )
    blocks[-1, -1] = actions[env]
    ids[0, : blocks.size] = blocks.reshape(-1)
    logits, _ = whole(params, ids, TASKS[env : env + 1])
    ends = jax.nn.softmax(logits.ends[0, count - 1])
    assert dreamed.end[env] == pytest.approx(float(ends[1]), abs=1e-5)


def greedy_dream(params, tokens, actions, path, task):
  """Uncached, token by token: (frames, reward, Q) after each action."""
  blocks = [[*frame, act] for frame, act in zip(tokens, actions, strict=True)]
  blocks[-1][-1] = path[0]
  steps = []

  def run(last):
    ids = np.zeros((1, CONFIG.backbone.max_tokens), np.int32)
    known = np.concatenate([*blocks, last]).astype(np.int32)
    ids[0, : len(known)] = known  # later places are not read
    return whole(params, ids, np.array([task]))

  for i in range(len(path)):
    at, frame = len(blocks) - 1, []
    logits, _ = run([])
    reward = int(np.argmax(logits.rewards[0, at])) - 1
    frame.append(int(np.argmax(logits.observations[0, at, -1])))
    for k in range(1, 3):
      logits, _ = run(frame)
      frame.append(int(np.argmax(logits.observations[0, at + 1, k - 1])))
    _, q = run(frame)
    steps.append((frame, reward, np.asarray(q[0, at + 1])))
    if i + 1 < len(path):
      blocks.append([*frame, path[i + 1]])
  return steps


@pytest.mark.parametrize('decoder', quick(DECODERS, 'parallel'))
def test_dreams_equal_uncached_greedy_decoding(params, decoder):
  context = contexts(0)
  found = jax.tree.map(np.asarray, plan(params, context, decoder=decoder))
  frames, rewards = set(), set()
  for env in range(len(TASKS)):
    legal = games.legal_mask()[TASKS[env]]
    for leaf in range(2):
      steps = greedy_dream(
        params,
        context.seen[env, -COUNT[env] :],
        context.actions[env, -COUNT[env] :],
        found.paths[env, leaf].tolist(),
        TASKS[env],
      )
      np.testing.assert_array_equal(
        found.tokens[env, leaf], [step[0] for step in steps]
      )
      np.testing.assert_array_equal(
        found.rewards[env, leaf], [step[1] for step in steps]
      )
      gamma = CONFIG.returns.gamma
      total = steps[0][1] + gamma * steps[1][1]
      value = gamma**2 * steps[1][2][legal].max()
      np.testing.assert_allclose(
        found.scores[env, leaf], total + value, atol=1e-4
      )
      frames |= {tuple(step[0]) for step in steps}
      rewards |= {step[1] for step in steps}
  # The dreams have something in them to get wrong.
  assert len(frames) > 4 and len(rewards) > 1


@pytest.mark.slow
def test_batch_of_environments_equals_a_loop(params):
  """Other games and context lengths in the batch change nothing."""
  context = contexts(1)
  together = plan(params, context)
  for env in range(len(TASKS)):
    one = slice(env, env + 1)
    alone = plan(params, jax.tree.map(lambda x: x[one], context))  # noqa: B023
    row = jax.tree.map(lambda x: x[one], together)  # noqa: B023
    for name in ('scores', 'reward_sums', 'rewards'):
      np.testing.assert_allclose(row[name], alone[name], atol=1e-4)
    for name in ('action', 'paths', 'tokens', 'passes', 'runs'):
      np.testing.assert_array_equal(row[name], alone[name])


def test_context_before_a_rows_start_is_not_read(params):
  context = contexts(2)
  base = plan(params, context)
  tokens, actions = context.seen.copy(), context.actions.copy()
  for env, count in enumerate(COUNT):
    tokens[env, : CONTEXT - count] = 0
    actions[env, : CONTEXT - count] = 0
  actions[:, -1] = 17  # yet to be chosen
  again = plan(params, context.replace(seen=tokens, actions=actions))
  np.testing.assert_array_equal(base.paths, again.paths)
  np.testing.assert_allclose(base.scores, again.scores, atol=1e-5)


def test_planner_traces_once_whatever_the_contexts(params):
  plan(params, contexts(0))
  traces = plan._cache_size()
  for seed in range(1, 4):
    count, tasks = np.roll(COUNT, seed), np.roll(TASKS, seed)
    plan(params, contexts(seed, count=count, tasks=tasks))
  assert plan._cache_size() == traces


@pytest.mark.slow
def test_half_precision_plans_finite_scores(params):
  config = dataclasses.replace(
    CONFIG, backbone=dataclasses.replace(CONFIG.backbone, dtype='bfloat16')
  )
  context = contexts(3)

  @functools.partial(jax.jit, static_argnums=0)
  def dream(config, params):
    memory, _ = remember(config, params, context)
    model = world_model(config, params, TASKS)
    return model.dream(memory, context.actions[:, -1])

  got = dream(config, params)
  assert got.memory.cache.context.keys[0].dtype == jnp.bfloat16
  assert got.q.dtype == jnp.float32 and np.isfinite(got.q).all()
  assert got.tokens.shape == (4, 3)
  assert (got.tokens >= 0).all() and (got.tokens < 13).all()


def test_world_heads_that_diverged_give_no_action(params):
  """Q is finite, what is dreamed is not."""
  heads = jax.tree.map(lambda x: x, params['world_heads'])
  heads['rewards']['dense_2']['bias'] *= jnp.nan
  found = plan({**params, 'world_heads': heads}, contexts(0))
  assert (found.action == -1).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'decoder': 'both'}, 'decoder=.*temperature='),
    ({'temperature': -1.0}, 'decoder=.*temperature='),
    ({'shares': (0.5, 0.6)}, 'must fall'),
    ({'decoder': 'sequential', 'schedule': (1.0,)}, 'of the parallel decoder'),
  ],
)
def test_bad_options_are_errors(params, options, message):
  with pytest.raises(ValueError, match=message):
    world_model(CONFIG, params, TASKS, **options)


@pytest.mark.parametrize(
  ('backend', 'environments', 'told', 'decoder'),
  [
    ('cpu', 8, {}, 'sequential'),
    # Its passes are packed.
    ('cpu', 1, {}, 'parallel'),
    # Only the parallel decoder can be told these.
    ('cpu', 8, {'schedule': (1.0, 0.5)}, 'parallel'),
    ('cpu', 8, {'shares': (0.5,)}, 'parallel'),
    ('gpu', 8, {}, 'parallel'),
    ('tpu', 1, {}, 'parallel'),
  ],
)
def test_the_decoder_is_the_fastest_of_the_device(
  monkeypatch, backend, environments, told, decoder
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert choose_decoder(None, environments, **told) == decoder
  for asked in DECODERS:
    assert choose_decoder(asked, environments, **told) == asked


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
def test_dreams_are_decoded_with_it(monkeypatch, params, backend):
  """A decoder that takes a pass for every token takes the most."""
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  context = contexts(0)
  found = imagine(CONFIG, params, context, lambda step, q, key: q.argmax(-1), 1)
  assert (found.passes == 4).all() == (backend == 'cpu')
