"""JOWA: one transformer trained as world model and as critic.

Parts: `tokenizer` and `world` (stage 1), `world_action` (stage 2); sections
4.1 to 4.3 of the paper.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jowa_jax import games
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import (
  Aux,
  BatchSpec,
  Encoder,
  Method,
  Metrics,
  Part,
  Policy,
  Variables,
)
from jowa_jax.methods.jowa_losses import (
  JowaLosses,
  prediction_metrics,
  world_action_losses,
)
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.methods.transformer_policy import transformer_policy
from jowa_jax.models import world_action
from jowa_jax.models.transformer import BackboneConfig
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan import dream, mcts
from jowa_jax.plan.base import faulty
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import Context, Segment

PLANNERS = ('none', 'beam', 'mcts')


def make_jowa(
  tokenizer: VQVAEConfig,
  model: WorldActionConfig,
  losses: JowaLosses,
  training: TokenizerTraining,
) -> Method:
  """Returns JOWA as a `Method`.

  Raises:
    ValueError: tokenizer and backbone disagree on tokens.
  """
  check_sizes(tokenizer, model.backbone)

  def init(key, statistics) -> Variables:
    tokenizer_key, model_key = jax.random.split(key)
    params = world_action.init(model, model_key)
    params['tokenizer'] = tokenizer_lib.init(tokenizer, tokenizer_key)
    return Variables(
      params=params,
      targets={'q_heads': jax.tree.map(jnp.copy, params['q_heads'])},
      extras=tokenizer_lib.init_extras(tokenizer, training, statistics),
    )

  def encode(variables: Variables, frames):
    return tokenizer_lib.encode(
      tokenizer, variables.params['tokenizer'], frames
    )

  def segment_tokens(variables: Variables, batch: Segment):
    return tokenizer_lib.segment_tokens(
      tokenizer, variables.params['tokenizer'], batch
    )

  def loss(joint: bool):
    def fn(variables: Variables, batch: Segment, key):
      terms, metrics = world_action_losses(
        model,
        losses,
        variables.params,
        variables.targets['q_heads'] if joint else None,
        segment_tokens(variables, batch),
        batch,
        key,
      )
      return sum(terms.values()), Aux(metrics, {})

    return fn

  def after_update(variables, carry, step) -> Variables:
    variables = tokenizer_lib.replace_codes(training, variables, carry, step)
    copy = step % losses.target_period == 0
    targets = jax.tree.map(
      lambda new, old: jnp.where(copy, new, old),
      variables.params['q_heads'],
      variables.targets['q_heads'],
    )
    return variables.replace(targets={'q_heads': targets})

  def evaluate(variables: Variables, batch: Segment) -> Metrics:
    params = variables.params
    tokens = segment_tokens(variables, batch)
    equal = dataclasses.replace(losses, rem=False)
    _, metrics = world_action_losses(
      model, equal, params, variables.targets['q_heads'], tokens, batch
    )
    # The compiler finds that these are computed already.
    hidden = world_action.hidden_states(
      model.backbone, params['backbone'], tokens, batch.actions, batch.task
    )
    logits = world_action.world_logits(
      model.backbone, params['world_heads'], hidden
    )
    return {
      **tokenizer_lib.evaluate(tokenizer, params['tokenizer'], batch),
      **metrics,
      **prediction_metrics(logits, tokens, batch),
    }

  return Method(
    spec=BatchSpec(
      length=model.backbone.max_blocks,
      statistics=tokenizer_lib.statistics(tokenizer),
    ),
    init=init,
    parts={
      'tokenizer': tokenizer_lib.part(tokenizer, training),
      'world': Part(('backbone', 'world_heads'), loss(joint=False)),
      'world_action': Part(
        ('backbone', 'world_heads', 'q_heads'), loss(joint=True)
      ),
    },
    after_update=after_update,
    encoder=Encoder(('tokenizer',), encode),
    evaluate=evaluate,
    policy=make_policy(model, encode),
  )


def check_sizes(tokenizer: VQVAEConfig, backbone: BackboneConfig) -> None:
  """Raises ValueError where tokenizer, backbone and games disagree."""
  for name in ('vocab_size', 'tokens_per_frame'):
    ours, theirs = getattr(tokenizer, name), getattr(backbone, name)
    if ours != theirs:
      raise ValueError(
        f'tokenizer.{name}={ours} and backbone.{name}={theirs} differ'
      )
  for name, size in (
    ('num_tasks', games.NUM_TASKS),
    ('num_actions', games.NUM_ACTIONS),
  ):
    if getattr(backbone, name) != size:
      raise ValueError(
        f'backbone.{name}={getattr(backbone, name)}, but Atari has {size}'
      )


def make_policy(model: WorldActionConfig, encode):
  """Returns JOWA's `Method.policy`."""

  def policy(
    *,
    planner: str = 'none',
    width: int = 2,
    horizon: int = 2,
    context_length: int | None = None,
    epsilon: float = 0.001,
    decoder: str = 'parallel',
    num_simulations: int = 20,
    temperature: float = 1.0,
    choose_by: str = 'value',
    shares: tuple[float, ...] | None = None,
    passes: int | None = None,
  ) -> Policy:
    """Acts greedily ('none'), by beam search ('beam') or tree search ('mcts').

    Args:
      planner: one of `PLANNERS`.
      width: beams kept.
      horizon: steps dreamed ahead; of a tree, the depth limit.
      context_length: blocks of context; by default what the position table
        leaves beside `horizon` dreamed blocks (section 4.2).
      epsilon: share of random legal actions.
      decoder: see `dream.world_model`.
      num_simulations: nodes of a tree beside its root.
      temperature: of a tree's priors.
      choose_by: see `mcts.tree_search`.
      shares: see `decode.parallel`; by default a half and a quarter on a single
        device. Several divide the environments, and packing would mix those.
      passes: see `dream.world_model`.

    Raises:
      ValueError: an option is out of its range, or context and horizon
        together longer than the position table.
    """
    if planner not in PLANNERS:
      raise ValueError(f'planner={planner!r} is not in {PLANNERS}')
    if width < 1 or horizon < 0:
      raise ValueError(
        f'width={width} must be at least 1 and horizon={horizon} at least 0'
      )
    if shares is None:
      packs = decoder == 'parallel' and passes is None
      shares = (0.5, 0.25) if packs and len(jax.local_devices()) == 1 else ()
    dream.check_options(decoder, 0.0, shares, passes)
    if planner == 'mcts':
      mcts.check_options(num_simulations, horizon, temperature, choose_by)
    depth = 0 if planner == 'none' else horizon
    room = model.backbone.max_blocks - depth
    length = room if context_length is None else context_length
    if length > room:
      raise ValueError(
        f'context_length={length} and horizon={depth} do not fit into the '
        f'{model.backbone.max_blocks} blocks of the position table: at most '
        f'context_length={room}, or lower the horizon'
      )

    def decide(variables, context: Context, legal, key):
      params = world_action.in_compute_dtype(model, variables.params)
      memory, q = dream.remember(model, params, context)
      if planner == 'none':
        fault = faulty(q, legal)
        action = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
        return jnp.where(fault, -1, action), {'q': q}
      simulator = dream.world_model(
        model,
        params,
        context.tasks,
        decoder=decoder,
        shares=shares,
        passes=passes,
      )
      if planner == 'beam':
        plan = beam_search(
          simulator,
          q,
          memory,
          legal,
          width=width,
          horizon=depth,
          gamma=model.returns.gamma,
        )
      else:
        plan = mcts.tree_search(
          simulator,
          q,
          memory,
          legal,
          key,
          num_simulations=num_simulations,
          depth_limit=depth,
          gamma=model.returns.gamma,
          temperature=temperature,
          choose_by=choose_by,
        )
      return plan.action, {'q': q, 'plan': plan}

    return transformer_policy(
      encode, decide, model.backbone.tokens_per_frame, length, epsilon
    )

  return policy
