"""Fine-tuning few of an agent's parameters: its heads, or low-rank adapters.

`adapt` wraps any `Method` whose objectives train a backbone. What a wrapped one
does not name gets neither gradients nor an optimizer state.

Low-rank adapters are those of Hu et al., 2021 (arXiv 2106.09685, section 4.1):
W + alpha / rank * A B, with B zero at first, so that an adapted agent begins
as the pretrained one. They are not decayed: their product is a difference, and
decay would pull the agent back to the pretrained one.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from jowa_jax.methods.base import Method, Objective, Policy, Variables
from jowa_jax.models.flops import Sizes
from jowa_jax.types import Params

MODES = ('full', 'heads', 'lora')
BACKBONE, LORA = 'backbone', 'lora'
# The section of a config that says it.
SECTION = 'adaptation'
# The projections of attention, and how many leading axes of a kernel they read.
_INPUTS = {'query': 1, 'key': 1, 'value': 1, 'proj': 2}
TARGETS = tuple(_INPUTS)
# Keeps the adapters' random numbers from those of the other parameters.
_SALT = 1 << 20


@dataclasses.dataclass(frozen=True)
class AdaptationConfig:
  """Which parameters are trained.

  Attributes:
    mode: 'full' for all that an objective trains, 'heads' for all but the
      backbone, 'lora' for these and adapters of the backbone.
    rank: of the adapters.
    alpha: alpha / rank scales them.
    targets: the projections of attention that are adapted, in every layer.
  """

  mode: str = 'full'
  rank: int = 8
  alpha: float = 16.0
  targets: tuple[str, ...] = TARGETS

  def __post_init__(self):
    if self.mode not in MODES:
      raise ValueError(f'mode={self.mode!r} is not in {MODES}')
    if self.rank < 1 or self.alpha <= 0:
      raise ValueError(
        f'rank={self.rank} and alpha={self.alpha} must be positive'
      )
    if not self.targets or set(self.targets) - set(TARGETS):
      raise ValueError(f'targets={self.targets} must name some of {TARGETS}')


def adapt(method: Method, config: AdaptationConfig, backbone: Sizes) -> Method:
  """A method that trains what `config` says.

  Args:
    method: one with parameters `backbone`.
    config: what is trained.
    backbone: sizes.

  Raises:
    ValueError: no objective of the method trains a backbone.
  """
  if config.mode == 'full':
    return method
  if not any(BACKBONE in each.params for each in method.objectives.values()):
    raise ValueError(
      f'adaptation.mode={config.mode!r} needs a method with a part that trains '
      f'{BACKBONE!r}; its parts are {list(method.objectives)}'
    )
  objectives = {
    name: _adapted(objective, config, backbone)
    for name, objective in method.objectives.items()
  }
  if config.mode == 'heads':
    return method._replace(objectives=objectives)

  def init(key, statistics) -> Variables:
    variables = method.init(key, statistics)
    adapters = init_adapters(
      config, variables.params[BACKBONE], jax.random.fold_in(key, _SALT)
    )
    return variables.replace(params={**variables.params, LORA: adapters})

  def policy(**options) -> Policy:
    plain = method.policy(**options)

    act = jax.jit(_on_merged(config, plain.act), donate_argnums=1)
    return Policy(init=plain.init, act=act)

  simulator = method.simulator
  if simulator is not None:
    reads = ('remember', 'world', 'foresee')
    simulator = simulator._replace(
      **{name: _on_merged(config, getattr(simulator, name)) for name in reads}
    )
  return method._replace(
    init=init,
    objectives=objectives,
    evaluate=_on_merged(config, method.evaluate),
    answers=method.answers and _on_merged(config, method.answers),
    policy=policy,
    simulator=simulator,
  )


def _on_merged(config: AdaptationConfig, fn: Callable) -> Callable:
  """A function of variables that reads them merged."""
  return lambda variables, *args: fn(merge(config, variables), *args)


def _adapted(
  objective: Objective, config: AdaptationConfig, backbone: Sizes
) -> Objective:
  """It with the backbone frozen, and adapted if need be."""
  if BACKBONE not in objective.params:
    return objective
  rest = tuple(name for name in objective.params if name != BACKBONE)
  if config.mode == 'heads':
    return objective._replace(params=rest)

  # The backbone is frozen, and yet gradients go back through it. Of the 12
  # squares of the width in a layer, they are left out but for the targets.
  frozen = (12 - len(config.targets)) * backbone.width**2
  saved = 2 * backbone.num_layers * backbone.max_tokens * frozen
  trunk = 3 * objective.flops[BACKBONE] - saved
  augment = objective.augment
  return objective._replace(
    params=(LORA, *rest),
    loss=_on_merged(config, objective.loss),
    flops={**objective.flops, BACKBONE: trunk},
    augment=augment and _on_merged(config, augment),
  )


def init_adapters(
  config: AdaptationConfig, backbone: Params, key: chex.PRNGKey
) -> Params:
  """Fresh adapters of a backbone, boxed with logical axis names.

  Args:
    config: names the layers that are adapted, and their rank.
    backbone: parameters, boxed.
    key: of A; B is zero.

  Returns:
    For every adapted `<layer>/attn/<target>/kernel` of shape (*ins, *outs),
    `<layer>/attn/<target>` with `a`, (*ins, rank), and `b`, (rank, *outs).
  """
  kernels = {
    path: box
    for path, box in traverse_util.flatten_dict(backbone).items()
    if path[-1] == 'kernel' and path[-2] in config.targets
  }
  adapters = {}
  for i, path in enumerate(sorted(kernels)):
    box, inputs = kernels[path], _INPUTS[path[-2]]
    ins, outs = box.value.shape[:inputs], box.value.shape[inputs:]
    a = jax.random.normal(jax.random.fold_in(key, i), (*ins, config.rank))
    adapters[(*path[:-1], 'a')] = nn.LogicallyPartitioned(
      a * math.prod(ins) ** -0.5, (*box.names[:inputs], 'rank')
    )
    adapters[(*path[:-1], 'b')] = nn.LogicallyPartitioned(
      jnp.zeros((config.rank, *outs)), ('rank', *box.names[inputs:])
    )
  return traverse_util.unflatten_dict(adapters)


def merge(config: AdaptationConfig, variables: Variables) -> Variables:
  """Variables of the plain method: adapters added to what they adapt.

  Args:
    config: what they were made with.
    variables: with the parameters `backbone` and `lora`.
  """
  params = dict(variables.params)
  backbone = traverse_util.flatten_dict(params.pop(BACKBONE))
  adapters = traverse_util.flatten_dict(params.pop(LORA))
  scale = config.alpha / config.rank
  for path in {path[:-1] for path in adapters}:
    a, b = adapters[(*path, 'a')], adapters[(*path, 'b')]
    kernel = (*path, 'kernel')
    backbone[kernel] = backbone[kernel] + scale * jnp.tensordot(a, b, 1)
  merged = {**params, BACKBONE: traverse_util.unflatten_dict(backbone)}
  return variables.replace(params=merged)


def without(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config of the same agent, its adapters merged: nothing is adapted."""
  return {name: value for name, value in config.items() if name != SECTION}


def names_to_take(
  named: Sequence[str],
  own: Collection[str],
  config: Mapping[str, Any],
  theirs: Mapping[str, Any],
  source: str,
) -> set[str]:
  """The parameters that a run takes from a checkpoint.

  A backbone and its adapters belong together: either without the other would
  be another agent's.

  Args:
    named: top-level names that are asked for; all if empty, but for adapters
      that the checkpoint has none of.
    own: top-level names of the run's parameters.
    config: of the run.
    theirs: config of the checkpoint.
    source: the checkpoint's place, for messages.

  Raises:
    ValueError: adapters would be parted from their backbone.
  """
  if named and BACKBONE not in named and LORA in named:
    raise ValueError(
      f'init_from.params={tuple(named)}: adapters belong to a backbone, take '
      f'{BACKBONE!r} too'
    )
  names, theirs = set(named or own) - {LORA}, theirs.get(SECTION, {})
  if theirs.get('mode') == LORA and BACKBONE in names:
    if theirs != config.get(SECTION):
      raise ValueError(
        f'init_from.checkpoints={source} is a run with low-rank adapters: set '
        f'the section {SECTION} to theirs, {theirs}, or merge them by '
        'launch.export_checkpoint and launch.import_checkpoint'
      )
    names.add(LORA)
  return names
