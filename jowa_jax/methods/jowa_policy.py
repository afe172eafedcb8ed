"""How JOWA decides: by its values alone, or with a planner in its model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jowa_jax.methods import jowa_dreams
from jowa_jax.methods.acting import Acting, option
from jowa_jax.methods.base import Policy
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.models import world_action
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan import mcts
from jowa_jax.plan.base import faulty
from jowa_jax.plan.beam import PATH_SCORES, beam_search
from jowa_jax.types import History, Params

_DREAMS = dict(horizon=2, decoder=None, shares=None, schedule=())
# The options that each planner reads, and their values if not given.
PLANNERS = {
  'none': dict(temperature=0.0),
  'beam': dict(_DREAMS, width=2, path_score='leaf'),
  'mcts': dict(_DREAMS, num_simulations=20, temperature=1.0, choose_by='value'),
}
_WORDS = {'none': 'greedy', 'beam': 'beam search', 'mcts': 'tree search'}
# What passes over a batch of dreams are packed into, `decode.parallel`.
SHARES = (0.5, 0.25)


def default_shares(decoder: str, environments: int) -> tuple[float, ...]:
  """The shares of `decode.parallel` to decode with.

  The beams of one environment are packed. Several environments are not: what
  is decided in one would depend, by rounding, on how much changes in the
  others, and devices that divide them would have to exchange rows.
  """
  return SHARES if environments == 1 and decoder == 'parallel' else ()


@dataclasses.dataclass(frozen=True)
class JowaActing(Acting):
  """How JOWA acts.

  What is None is left to the planner, see `PLANNERS`; an option that is given
  though the planner does not read it is an error.

  Attributes:
    planner: 'none' acts by the values of the current frame, 'beam' by beam
      search, 'mcts' by tree search.
    context_length: blocks of context; by default what the position table
      leaves beside the dreamed blocks (section 4.2).
    width: beams kept.
    path_score: see `beam_search`.
    horizon: steps dreamed ahead; of a tree, the depth limit.
    num_simulations: nodes of a tree beside its root.
    temperature: of a tree's priors; without a planner, actions are drawn from
      the softmax of Q values over it, or are the best where it is 0.
    choose_by: see `mcts.tree_search`.
    decoder: see `jowa_dreams.world_model`.
    shares: see `decode.parallel`; by default `default_shares`.
    schedule: see `decode.parallel`.
  """

  planner: str = option('none', 'Of JOWA.', PLANNERS)
  context_length: int | None = option(None, 'Blocks of context.')
  width: int | None = option(None, 'Beams kept (beam).')
  path_score: str | None = option(
    None, 'What leaves are compared by (beam).', PATH_SCORES
  )
  horizon: int | None = option(
    None, 'Steps dreamed ahead (beam); depth limit (mcts).'
  )
  num_simulations: int | None = option(None, 'Nodes of a tree (mcts).')
  temperature: float | None = option(
    None,
    'Of priors (mcts); of actions drawn by value, 0 for the best (none).',
  )
  choose_by: str | None = option(
    None, 'Which child is played (mcts).', ('value', 'visits')
  )
  decoder: str | None = None
  shares: tuple[float, ...] | None = None
  schedule: tuple[float, ...] | None = None

  def __post_init__(self):
    if self.planner not in PLANNERS:
      raise ValueError(f'planner={self.planner!r} is not in {tuple(PLANNERS)}')
    for name, value in self._given.items():
      if name not in PLANNERS[self.planner]:
        able = [planner for planner, has in PLANNERS.items() if name in has]
        raise ValueError(
          f'{name}={value!r} needs planner={" or ".join(able)}, not '
          f'{self.planner}'
        )
    _check(self.planner, self.settings)

  @property
  def _given(self) -> dict[str, Any]:
    """The options that are given, of whichever planner."""
    names = dict.fromkeys(name for has in PLANNERS.values() for name in has)
    values = {name: getattr(self, name) for name in names}
    return {name: x for name, x in values.items() if x is not None}

  @property
  def settings(self) -> dict[str, Any]:
    """All options of the planner."""
    return {**PLANNERS[self.planner], **self._given}

  @classmethod
  def names(cls) -> frozenset[str]:
    # A game's settings are a planner's, and do not choose it.
    return super().names() - {'planner'}

  @classmethod
  def read_beside(cls, given: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
      {'context_length', *PLANNERS.get(given.get('planner'), ())}
    )

  @property
  def words(self) -> tuple[str, ...]:
    settings = self.settings
    how = _WORDS[self.planner]
    if self.planner == 'none' and settings['temperature']:
      how = f'drawn at temperature {settings["temperature"]}'
    return (
      how,
      *(
        f'{name} {settings[name]}'.replace('num_', '')
        for name in ('width', 'num_simulations', 'horizon')
        if name in settings
      ),
      *(['score mean'] if settings.get('path_score') == 'mean' else []),
    )


def _check(planner: str, settings: Mapping[str, Any]) -> None:
  """Raises ValueError where a value cannot be."""
  if planner == 'none':
    if settings['temperature'] < 0:
      raise ValueError(
        f'temperature={settings["temperature"]} must be at least 0'
      )
    return
  jowa_dreams.check_options(
    settings['decoder'],
    shares=settings['shares'] or (),
    schedule=settings['schedule'],
  )
  if planner == 'beam':
    if settings['width'] < 1 or settings['horizon'] < 0:
      raise ValueError(
        f'width={settings["width"]} must be at least 1 and '
        f'horizon={settings["horizon"]} at least 0'
      )
    if settings['path_score'] not in PATH_SCORES:
      raise ValueError(
        f'path_score={settings["path_score"]!r} is not in {PATH_SCORES}'
      )
  else:
    mcts.check_options(
      settings['num_simulations'],
      settings['horizon'],
      settings['temperature'],
      settings['choose_by'],
    )


def make_policy(
  model: WorldActionConfig, encode: Callable
) -> Callable[..., Policy]:
  """JOWA's `Method.policy`, which takes the options of `JowaActing`.

  Args:
    model: sizes.
    encode: (variables, frames [E, 84, 84]) -> tokens [E, K] int32.
  """

  def policy(**options: Any) -> Policy:
    """The policy of some options, see `JowaActing`.

    Raises:
      TypeError: there is no such option.
      ValueError: an option is out of its range or of another planner, or
        context and horizon together longer than the position table.
    """
    acting = JowaActing.of(options)
    settings = acting.settings
    horizon = settings.get('horizon', 0)
    room = model.backbone.max_blocks - horizon
    length = room if acting.context_length is None else acting.context_length
    if length > room:
      raise ValueError(
        f'context_length={length} and horizon={horizon} do not fit into the '
        f'{model.backbone.max_blocks} blocks of the position table: at most '
        f'context_length={room}, or lower the horizon'
      )

    def decide(variables, history: History, legal, keys):
      params = world_action.in_compute_dtype(model, variables.params)
      memory, q = jowa_dreams.remember(model, params, history)
      if acting.planner == 'none':
        actions = choose(q, legal, keys, settings['temperature'])
        return actions, {'q': q}
      search = _beam if acting.planner == 'beam' else _tree
      plan = search(model, params, settings, history.tasks, q, memory, legal)
      return plan.action, {'q': q, 'plan': plan}

    tokens = jax.ShapeDtypeStruct((model.backbone.tokens_per_frame,), jnp.int32)
    return history_policy(encode, decide, tokens, length, acting.epsilon)

  return policy


def choose(
  q: chex.Array, legal: chex.Array, keys: chex.PRNGKey, temperature: float
) -> chex.Array:
  """The best legal actions [E], or draws by their values; -1 see `faulty`.

  Args:
    q: [E, A].
    legal: [E, A] bool.
    keys: [E], each environment's own.
    temperature: actions are drawn from the softmax of Q over it; 0 takes the
      best.
  """
  fault = faulty(q, legal)
  q = jnp.where(legal, q, -jnp.inf)
  if temperature:
    actions = jax.vmap(jax.random.categorical)(keys, q / temperature)
  else:
    actions = jnp.argmax(q, axis=-1)
  return jnp.where(fault, -1, actions)


def _world(
  model: WorldActionConfig,
  params: dict[str, Params],
  settings: Mapping[str, Any],
  tasks: chex.Array,
):
  """The world model that a planner searches in."""
  shares, schedule = settings['shares'], settings['schedule']
  decoder = jowa_dreams.choose_decoder(
    settings['decoder'], len(tasks), shares, schedule
  )
  if shares is None:
    shares = default_shares(decoder, len(tasks))
  return jowa_dreams.world_model(
    model,
    params,
    tasks,
    decoder=decoder,
    shares=shares,
    schedule=schedule,
  )


def _beam(model, params, settings, tasks, q, memory, legal):
  return beam_search(
    _world(model, params, settings, tasks),
    q,
    memory,
    legal,
    width=settings['width'],
    horizon=settings['horizon'],
    gamma=model.returns.gamma,
    path_score=settings['path_score'],
  )


def _tree(model, params, settings, tasks, q, memory, legal):
  return mcts.tree_search(
    _world(model, params, settings, tasks),
    q,
    memory,
    legal,
    # It breaks ties alone: the same each time, so that a decision does not
    # depend on what else is in the batch.
    jax.random.key(0),
    num_simulations=settings['num_simulations'],
    depth_limit=settings['horizon'],
    gamma=model.returns.gamma,
    temperature=settings['temperature'],
    choose_by=settings['choose_by'],
  )
