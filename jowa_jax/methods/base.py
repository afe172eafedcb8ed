"""The interface between a learning method and the trainer and evaluator.

A method is a tuple of pure functions over `Variables`. The trainer knows
nothing else: it asks for `Objective`s, differentiates each one's loss with
respect to the parameters it names, and applies its optimizer. In a config they
are the `parts` of a stage.
"""

import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import chex
import numpy as np

from jowa_jax import games
from jowa_jax.plan.base import WorldModel
from jowa_jax.types import History, Params, Segment, TimeStep


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


def is_kernel(path: tuple[str, ...]) -> bool:
  """Whether a parameter is the weights of a linear or convolutional layer.

  Args:
    path: names from the top-level one to the parameter's own.
  """
  return path[-1] == 'kernel'


class Objective(NamedTuple):
  """A loss and the parameters it updates.

  Both functions see a micro-batch, all of a batch or one of the shares that it
  is taken in for memory, and know nothing of the others. `step`, [] int32,
  counts the steps taken in the stage before this one.

  Attributes:
    params: top-level names in `Variables.params` that the loss updates.
    loss: (variables, segments, key, step) -> (scalar, Aux).
    flops: floating-point operations of the forward pass for every segment, by
      formula, see `models.flops`: by the name in `Variables.params` of what is
      computed with, or a name of the objective's own for what is never trained.
    augment: (variables, segments, key, step) -> (segments, metrics), what is
      done with segments before the loss reads them, without gradients; None
      for nothing.
    rows: what the number of segments must be divisible by.
    decays: (path) -> whether weight decay touches the parameter, see
      `is_kernel`.
    reads: what it reads of play beside the frames, of which videos have
      nothing.
  """

  params: tuple[str, ...]
  loss: Callable[
    [Variables, Segment, chex.PRNGKey, chex.Array], tuple[chex.Array, Aux]
  ]
  flops: Mapping[str, float]
  augment: (
    Callable[
      [Variables, Segment, chex.PRNGKey, chex.Array], tuple[Segment, Metrics]
    ]
    | None
  ) = None
  rows: int = 1
  decays: Callable[[tuple[str, ...]], bool] = is_kernel
  reads: tuple[str, ...] = ('actions', 'rewards')


class Tokenizer(NamedTuple):
  """How frames become tokens, and tokens frames.

  Attributes:
    params: top-level names in `Variables.params` that it reads; a data set
      can be encoded once by a stage that trains none of them.
    encode: (variables, frames [..., H, W] uint8) -> tokens [..., K] int32.
    decode: (variables, tokens [..., K]) -> frames [..., H, W] uint8.
    vocab_size: number of different tokens.
    motion_threshold: departure of a pixel from its game's median frame that
      counts as motion when reconstructions are judged, in units of the pixel
      range.
  """

  params: tuple[str, ...]
  encode: Callable[[Variables, chex.Array], chex.Array]
  decode: Callable[[Variables, chex.Array], chex.Array]
  vocab_size: int
  motion_threshold: float


class Foresight(NamedTuple):
  """What a simulator expects of every step of B sequences of T steps."""

  # [B, T - 1, K] int32, the likeliest frames after all steps but the last, each
  # token given those of its frame before it
  tokens: chex.Array
  rewards: chex.Array  # [B, T, 3] float32, probabilities of -1, 0 and 1
  ends: chex.Array  # [B, T] float32, probability that the action ends it


class Simulator(NamedTuple):
  """How an agent imagines what follows, and what that is worth to it.

  What it imagines are tokens: of `Method.tokenizer`, which decodes them.

  Attributes:
    max_steps: steps of a history and of what is imagined after it, at most.
    gamma: discount of the values Q.
    remember: (variables, history of E environments) -> (memory, Q [E, A] at
      their current frames).
    world: (variables, tasks [E] int32, temperature) -> the world model that
      goes on from such memories. By default it dreams what is likeliest; with a
      temperature, a number or an array [], it draws what it dreams from the
      softmax of logits over it, and needs a key.
    foresee: (variables, tokens [B, T, K], actions [B, T], tasks [B]) ->
      Foresight, in one pass over frames that are given, real or imagined.
    search: (width, horizon, path_score) -> the options of `Method.policy` with
      which the agent plans in what it imagines, by a beam search, see
      `plan.beam.beam_search`; its info has `plan`.
  """

  max_steps: int
  gamma: float
  remember: Callable[[Variables, History], tuple[Any, chex.Array]]
  world: Callable[..., WorldModel]
  foresee: Callable[[Variables, chex.Array, chex.Array, chex.Array], Foresight]
  search: Callable[..., dict[str, Any]]


class LatentActions(NamedTuple):
  """What an agent that learned from watching tells of actions.

  Attributes:
    count: K, how many latent actions there are.
    stack: frames that a state is made of.
    told: (variables, segments with actions) -> [60, A, K] float32, how often
      the actions of every game were told as each latent one.
    remember: (variables, the last frames of E environments, [E, stack, 84, 84]
      uint8, the newest last) -> memory.
    follow: (variables, memory, latent actions [E] int32) -> (the frames that
      they lead to, [E, 84, 84] uint8, memory of that).
  """

  count: int
  stack: int
  told: Callable[[Variables, Segment], chex.Array]
  remember: Callable[[Variables, chex.Array], Any]
  follow: Callable[[Variables, Any, chex.Array], tuple[chex.Array, Any]]


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

  @property
  def reading(self) -> dict[str, Any]:
    """What a `data.feed.dataset.SegmentDataset` reads beside the length."""
    names = ('fields', 'history', 'lookahead')
    return {name: getattr(self, name) for name in names}


class Policy(NamedTuple):
  """A batched agent: one call of `act` serves all environments.

  Attributes:
    init: (tasks [E] int32) -> PolicyState, a pytree of arrays.
    act: (variables, PolicyState, TimeStep, keys [E]) -> (actions [E] int32 in
      the 18-action vocabulary, PolicyState, info). An environment whose
      `TimeStep.first` is set starts with an empty history. What it does
      depends on its own key and frames and its place in the batch, not on the
      other environments'. The state is donated. Action -1 says that there is
      none, see `check_actions`.
  """

  init: Callable[[chex.Array], Any]
  act: Callable[
    [Any, Any, TimeStep, chex.PRNGKey],
    tuple[chex.Array, Any, dict[str, chex.Array]],
  ]


class Answers(NamedTuple):
  """Which class was named of N things of B segments, and which was true."""

  named: chex.Array  # [B, N] int32
  true: chex.Array  # [B, N] int32
  mask: chex.Array  # [B, N] bool, those that count


class Method(NamedTuple):
  """A trainable agent.

  Attributes:
    spec: what it needs of the data.
    tokens: tokens that a segment is read as, for the rate that is logged.
    dtype: of the computation.
    init: (key, statistics) -> Variables; `statistics` holds those that `spec`
      names, each [60, ...] with a row for every game.
    objectives: what a training stage can ask for, by name.
    after_update: (variables, carry, step) -> Variables, called once per
      training step after all objectives' updates; `carry` merges their
      `Aux.carry`, `step` counts within the stage from 1.
    tokenizer: for encoding a data set once, and for showing what tokens hold;
      None if the method reads pixels.
    evaluate: (variables, batch) -> metrics on held-out segments, `Ratio`s
      among them; of segments with `acted`, those of play without actions, the
      metrics that need none.
    begin_stage: (variables, objectives, before) -> Variables, called once as a
      training stage begins, with the names of its objectives and of those of
      the stages before it; None for nothing.
    policy: (**options) -> Policy; options are the fields of the method's own
      `Acting`. An unknown option is a TypeError.
    simulator: by which the agent imagines; None if it does not.
    latents: what it tells of actions that it only watched; None if nothing.
    answers: (variables, batch) -> what it names by classes, such as actions, by
      name; None if it is not judged so.
    files: what training reads beside the data, and acting does not, by the
      field of the config that names it.
  """

  spec: BatchSpec
  tokens: int
  dtype: str
  init: Callable[[chex.PRNGKey, Mapping[str, chex.Array]], Variables]
  objectives: dict[str, Objective]
  after_update: Callable[[Variables, dict[str, Any], chex.Array], Variables]
  tokenizer: Tokenizer | None
  evaluate: Callable[[Variables, Segment], Metrics]
  policy: Callable[..., Policy]
  begin_stage: (
    Callable[[Variables, Collection[str], Collection[str]], Variables] | None
  ) = None
  simulator: Simulator | None = None
  latents: LatentActions | None = None
  answers: Callable[[Variables, Segment], dict[str, Answers]] | None = None
  files: Mapping[str, str] = types.MappingProxyType({})


def check_actions(actions: chex.Array, tasks: chex.Array) -> np.ndarray:
  """What a policy answered, on the host.

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
