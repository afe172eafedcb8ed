"""Monte Carlo tree search in the world model, by the `mctx` library.

The baseline of JOWA section 5.2 and appendix F: MuZero's search with the
critic in place of policy and value heads.
"""

import importlib.util
from typing import Any

import chex
import jax.numpy as jnp

from jowa_jax.plan.base import WorldModel, faulty

CHOICES = ('value', 'visits')


@chex.dataclass(frozen=True)
class TreePlan:
  """What a tree search found."""

  action: chex.Array  # [E] int32; -1 see `base.faulty`
  visits: chex.Array  # [E, A] int32, of the root's children
  values: chex.Array  # [E, A] float32, theirs; 0 where never visited


@chex.dataclass(frozen=True)
class _Node:
  """What the tree keeps of a state, one of every environment."""

  trail: Any  # see `base.Trails`
  sound: chex.Array  # [E] bool, all Q values were finite


def tree_search(
  model: WorldModel,
  root_q: chex.Array,
  memory: Any,
  legal: chex.Array,
  key: chex.PRNGKey,
  *,
  num_simulations: int = 20,
  depth_limit: int = 2,
  gamma: float = 0.99,
  temperature: float = 1.0,
  choose_by: str = 'value',
) -> TreePlan:
  """Grows one tree for every environment, all together.

  Priors are the softmax of Q over temperature, over legal actions; a leaf is
  worth the Q value of its best legal action; PUCT with MuZero's constants; no
  noise at the root. Dreamed terminations are not used.

  Memory: a node keeps the trail to it. In the trained model these are the keys
  and values of the frames dreamed on the way, but not those of its context,
  which all nodes of a tree share, nor its own if it is at the depth limit. That
  is (num_simulations + 1) * (depth_limit - 1) frames for every environment; one
  of JOWA-150M is 1.4 MB in bfloat16.

  Args:
    model: the world model, with trails.
    root_q: [E, A] float32 Q values at the current frames.
    memory: of the contexts, one row per environment.
    legal: [E, A] bool.
    key: breaks ties.
    num_simulations: nodes dreamed for every environment.
    depth_limit: steps from the root to the deepest node.
    gamma: discount.
    temperature: of the priors.
    choose_by: 'value', the visited child of the root with the highest value
      (as the authors), or 'visits'.

  Raises:
    ValueError: an argument is out of its range, or the model has no trails.
  """
  import mctx

  check_options(num_simulations, depth_limit, temperature, choose_by)
  trails = model.trails
  if trails is None:
    raise ValueError('Tree search needs a world model with trails')
  chex.assert_rank([root_q, legal], 2)

  sound = ~faulty(root_q, legal)
  # Without a legal action there is no search; every action will do for it.
  allowed = legal | ~sound[:, None]

  def prior_and_value(q):
    logits = jnp.where(allowed, q / temperature, -jnp.inf)
    return logits, jnp.max(jnp.where(allowed, q, -jnp.inf), axis=-1)

  def dream(params, key, actions, node: _Node):
    del params, key
    step = model.dream(trails.recall(memory, node.trail), actions, None)
    sound = node.sound & ~faulty(step.q, allowed) & jnp.isfinite(step.reward)
    # One value that is not finite must not spread through the tree.
    q = jnp.where(sound[:, None], step.q, 0.0)
    logits, value = prior_and_value(q)
    output = mctx.RecurrentFnOutput(
      reward=jnp.where(sound, step.reward, 0.0),
      discount=jnp.full_like(value, gamma),
      prior_logits=logits,
      value=value,
    )
    trail = trails.extend(node.trail, step.memory)
    return output, _Node(trail=trail, sound=sound)

  logits, value = prior_and_value(jnp.where(sound[:, None], root_q, 0.0))
  root = mctx.RootFnOutput(
    prior_logits=logits,
    value=value,
    # Nothing is dreamed after the nodes at the depth limit.
    embedding=_Node(trail=trails.begin(memory, depth_limit - 1), sound=sound),
  )
  found = mctx.muzero_policy(
    params=(),
    rng_key=key,
    root=root,
    recurrent_fn=dream,
    num_simulations=num_simulations,
    invalid_actions=~allowed,
    max_depth=depth_limit,
    dirichlet_fraction=0.0,
    qtransform=_legal_qtransform(mctx),
    temperature=0.0,
  ).search_tree
  return _chosen(found, choose_by)


def _chosen(tree: Any, choose_by: str) -> TreePlan:
  """The actions of trees that are grown, -1 where a node of one is faulty."""
  summary = tree.summary()
  visited = summary.visit_counts > 0
  score = summary.qvalues if choose_by == 'value' else summary.visit_counts
  action = jnp.argmax(jnp.where(visited, score, -jnp.inf), axis=-1)
  sound = (tree.embeddings.sound | (tree.node_visits == 0)).all(axis=1)
  return TreePlan(
    action=jnp.where(sound, action, -1).astype(jnp.int32),
    visits=summary.visit_counts.astype(jnp.int32),
    values=jnp.where(visited, summary.qvalues, 0.0),
  )


def check_options(
  num_simulations: int, depth_limit: int, temperature: float, choose_by: str
) -> None:
  """Raises ValueError if `tree_search` cannot be told this."""
  if num_simulations < 1 or depth_limit < 1 or temperature <= 0:
    raise ValueError(
      'Tree search needs num_simulations >= 1, a depth limit (horizon) >= 1 '
      f'and temperature > 0, got num_simulations={num_simulations}, '
      f'horizon={depth_limit}, temperature={temperature}'
    )
  if choose_by not in CHOICES:
    raise ValueError(f'choose_by={choose_by!r} is not in {CHOICES}')
  if importlib.util.find_spec('mctx') is None:
    raise ValueError('Tree search needs the mctx library: pip install mctx')


def _legal_qtransform(mctx):
  """MuZero's, with which no node expands an illegal action."""

  def transform(tree, node: chex.Array) -> chex.Array:
    scores = mctx.qtransform_by_parent_and_siblings(tree, node)
    return jnp.where(tree.root_invalid_actions, -jnp.inf, scores)

  return transform
