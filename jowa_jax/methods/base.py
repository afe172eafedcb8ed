"""The interface between a learning method and the trainer and evaluator.

A method is a tuple of pure functions over `Variables`. The trainer knows
nothing else: it asks for `Part`s, differentiates each part's loss with
respect to the parameters the part names, and applies that part's optimizer.
"""

import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import chex
import numpy as np

from jowa_jax import games
from jowa_jax.types import Params, Segment, TimeStep


class Ratio(NamedTuple):
  """A share of what may be rare: batches add their counts, then divide."""

  part: chex.Array  # []
  whole: chex.Array  # []


Metrics = dict[str, chex.Array | Ratio]


@chex.dataclass(frozen=True)
class Variables:
  """Everything a method learns or remembers."""

  params: dict[str, Params]  # trained by gradients, by top-level name
  targets: dict[str, Params]  # slow copies of some of `params`
  extras: dict[str, Any]  # counters and constants, never differentiated


class Aux(NamedTuple):
  """What a loss returns beside its value."""

  metrics: Metrics  # scalars, logged
  carry: dict[str, Any]  # arrays for `Method.after_update`, never logged


class Augment(NamedTuple):
  """What is done with a batch before a part's loss reads it.

  Attributes:
    apply: (variables, batch, key, step, parts) -> (batch, metrics); `step`
      counts the steps taken in the stage, and row i is in part i % `parts` of
      the batch, see `train.step`.
    rows: what each part's number of rows must be divisible by.
  """

  apply: Callable[
    [Variables, Segment, chex.PRNGKey, chex.Array, int],
    tuple[Segment, Metrics],
  ]
  rows: int


class Part(NamedTuple):
  """One loss and the parameters it updates.

  Attributes:
    params: top-level names in `Variables.params` that the loss updates.
    loss: (variables, batch, key) -> (scalar, Aux).
    flops: floating-point operations of a step for every segment, by formula,
      see `models.flops`.
    augment: what is done with the batch first; None for nothing.
  """

  params: tuple[str, ...]
  loss: Callable[[Variables, Segment, chex.PRNGKey], tuple[chex.Array, Aux]]
  flops: float
  augment: Augment | None = None


class Encoder(NamedTuple):
  """How frames become tokens.

  Attributes:
    params: top-level names in `Variables.params` that it reads; a data set
      can be encoded once by a stage that trains none of them.
    encode: (variables, frames [..., H, W] uint8) -> tokens [..., K] int32.
  """

  params: tuple[str, ...]
  encode: Callable[[Variables, chex.Array], chex.Array]


class BatchSpec(NamedTuple):
  """What a method needs of the data: nothing else is computed.

  Attributes:
    length: steps of a segment that have a loss, see `types.Segment.train`.
    history: steps before them, such as a stack's earlier frames.
    lookahead: steps after them, such as the n of n-step returns.
    fields: those of `types.OPTIONAL_FIELDS` that it reads.
    statistics: of `data.feed.statistics.STATISTICS`, those `Method.init` reads.
  """

  length: int
  history: int = 0
  lookahead: int = 0
  fields: frozenset[str] = frozenset()
  statistics: tuple[str, ...] = ()


class Policy(NamedTuple):
  """A batched agent: one call of `act` serves all environments.

  Attributes:
    init: (tasks [E] int32) -> PolicyState, a pytree of arrays.
    act: (variables, PolicyState, TimeStep, keys [E]) -> (actions [E] int32 in
      the 18-action vocabulary, PolicyState, info). An environment whose
      `TimeStep.first` is set starts with an empty context. What it does
      depends on its own key and frames and its place in the batch, not on the
      other environments'. The state is donated. Action -1 says that there is
      none, see `check_actions`.
  """

  init: Callable[[chex.Array], Any]
  act: Callable[
    [Any, Any, TimeStep, chex.PRNGKey],
    tuple[chex.Array, Any, dict[str, chex.Array]],
  ]


class Method(NamedTuple):
  """A trainable agent.

  Attributes:
    spec: what it needs of the data.
    tokens: tokens that a segment is read as, for the rate that is logged.
    dtype: of the computation.
    init: (key, statistics) -> Variables; `statistics` holds those that `spec`
      names, each [60, ...] with a row for every game.
    parts: the losses a training stage can ask for, by name.
    after_update: (variables, carry, step) -> Variables, called once per
      training step after all parts were updated; `carry` merges the parts'
      `Aux.carry`, `step` counts within the stage from 1.
    encoder: for encoding a data set once; None if the method reads pixels.
    evaluate: (variables, batch) -> metrics on held-out segments, `Ratio`s
      among them.
    begin_stage: (variables, parts, before) -> Variables, called once as a
      training stage begins, with the names of the parts it trains and of those
      that the stages before it trained; None for nothing.
    policy: (**options) -> Policy; options are the method's own, such as the
      planner and its width. An unknown option is a TypeError.
    files: what training reads beside the data, and acting does not, by the
      field of the config that names it.
  """

  spec: BatchSpec
  tokens: int
  dtype: str
  init: Callable[[chex.PRNGKey, Mapping[str, chex.Array]], Variables]
  parts: dict[str, Part]
  after_update: Callable[[Variables, dict[str, Any], chex.Array], Variables]
  encoder: Encoder | None
  evaluate: Callable[[Variables, Segment], Metrics]
  policy: Callable[..., Policy]
  begin_stage: (
    Callable[[Variables, Collection[str], Collection[str]], Variables] | None
  ) = None
  files: Mapping[str, str] = types.MappingProxyType({})


def check_actions(actions: chex.Array, tasks: chex.Array) -> np.ndarray:
  """Returns what a policy answered, on the host.

  Args:
    actions: [E] int32.
    tasks: [E] int32, the games.

  Raises:
    FloatingPointError: the policy found no action.
  """
  actions = np.asarray(actions)
  if (actions < 0).any():
    without = sorted({games.GAMES[task] for task in tasks[actions < 0]})
    raise FloatingPointError(
      f'No action in {", ".join(without)}: either values are not finite, then '
      'the weights have diverged: take an earlier checkpoint; or the mask '
      'leaves no legal action'
    )
  return actions
