"""The batched beam planner against the authors' one-environment planner."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.jowa_dreams import remember, world_model
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import History
from tests.parity import fixtures

MODELS = ('planning_c51_1head', 'planning_c51_3heads')
TOLERANCE = 1e-4


@functools.cache
def setup(name):
  data = fixtures.load(name)
  weights = fixtures.under(data, 'state_dict')
  config = fixtures.model_config(weights)
  cases = [
    fixtures.under(data, f'case{i}') for i in range(int(data['num_cases']))
  ]
  return config, fixtures.model_params(config, weights, targets=False), cases


def test_cases_were_recorded():
  for name in MODELS:
    settings = {
      (int(case['beam_width']), int(case['horizon'])) for case in setup(name)[2]
    }
    assert settings >= {(1, 1), (2, 0), (2, 1), (2, 2), (4, 2)}
    assert len({int(case['game_id']) for case in setup(name)[2]}) >= 2


def read_context(config, case, length):
  """Returns a right-aligned (tokens, actions, count) of one case."""
  block, k = config.backbone.block_size, config.backbone.tokens_per_frame
  ids = case['tokens'].astype(np.int32)
  # The current frame has no action yet.
  blocks = np.append(ids, np.zeros(-len(ids) % block, np.int32))
  blocks = blocks.reshape(-1, block)[-length:]
  padded = np.zeros((length, block), np.int32)
  padded[length - len(blocks) :] = blocks
  return padded[:, :k], padded[:, k], len(blocks)


@pytest.mark.parametrize(
  ('name', 'decoder'),
  [
    *((name, 'parallel') for name in MODELS),
    # That both decoders find the same, other tests say too.
    pytest.param(MODELS[0], 'sequential', marks=pytest.mark.slow),
  ],
)
def test_plans(name, decoder):
  """All games and context lengths of one (width, horizon) in one call."""
  config, params, cases = setup(name)
  groups = {}
  for case in cases:
    key = int(case['beam_width']), int(case['horizon'])
    groups.setdefault(key, []).append(case)
  for (width, horizon), group in groups.items():
    length = config.backbone.max_blocks - horizon
    tokens, actions, count = (
      np.stack(x)
      for x in zip(
        *(read_context(config, c, length) for c in group), strict=True
      )
    )
    tasks = np.array([int(case['game_id']) for case in group], np.int32)
    context = History(seen=tokens, actions=actions, count=count, tasks=tasks)
    q, plan = jax.device_get(
      plan_once(config, width, horizon, decoder, params, context)
    )
    for i, case in enumerate(group):
      check(case, q[i], jax.tree.map(lambda x, i=i: x[i], plan), horizon)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def plan_once(config, width, horizon, decoder, params, context):
  memory, q = remember(config, params, context)
  legal = jnp.asarray(games.legal_mask())[context.tasks]
  plan = beam_search(
    world_model(config, params, context.tasks, decoder=decoder),
    q,
    memory,
    legal,
    width=width,
    horizon=horizon,
    gamma=config.returns.gamma,
  )
  return jnp.where(legal, q, -jnp.inf), plan


def check(case, q, plan, horizon):
  finite = np.isfinite(case['root_q'])
  np.testing.assert_array_equal(np.isfinite(q), finite)
  fixtures.assert_close(q[finite], case['root_q'][finite])
  if not horizon:
    assert plan.action == case['action'] or ties(case['root_q'])
    return
  scores = case['beam_scores']
  kept = np.isfinite(plan.scores)
  assert kept.sum() == len(scores)
  fixtures.assert_close(plan.scores[kept], scores, TOLERANCE)
  ours = {
    tuple(path): reward
    for path, reward in zip(
      plan.paths[kept], plan.reward_sums[kept], strict=True
    )
  }
  theirs = {
    tuple(path): reward
    for path, reward in zip(
      case['beam_actions'], case['beam_reward_sums'], strict=True
    )
  }
  assert set(ours) == set(theirs)
  for path, reward in theirs.items():
    assert abs(ours[path] - reward) <= TOLERANCE
  others = scores[case['beam_actions'][:, 0] != case['action']]
  if not len(others) or scores[0] - others.max() > TOLERANCE:
    assert plan.action == case['action']


def ties(q):
  best = np.sort(q)[-2:]
  return best[1] - best[0] <= TOLERANCE
