"""An objective's optimizer, as its config says: clipping, then a kind's rule.

The defaults are the paper's AdamW (Table 13).
"""

import dataclasses
import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from jowa_jax.types import Params

KINDS = ('adamw', 'adam', 'lamb', 'sgd')
DECAYS = ('constant', 'linear', 'cosine', 'exponential')
WARMUPS = ('linear', 'exponential')
MASKS = ('kernels', 'all')

# (path) -> whether weight decay touches a parameter, see `methods.base`.
Decays = Callable[[tuple[str, ...]], bool]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """One objective's optimizer.

  Attributes:
    learning_rate: at the peak, which the warm-up ends with.
    weight_decay: of the parameters that `decay_mask` names. 'adamw' and 'lamb'
      add it to the update (decoupled), 'adam' and 'sgd' to the clipped
      gradient.
    clip: largest global norm of the objective's gradients; see `clip_each`.
    b1: first moment's decay; of 'sgd' the momentum, 0 for none.
    b2: second moment's decay.
    eps: Adam's epsilon.
    warmup_steps: of the warm-up; 0 for none, as in the paper.
    decay: of the learning rate from there to the stage's last step:
      'constant' for none, as in the paper, 'linear', 'cosine' or 'exponential'.
    final_fraction: of the peak, what the last step of a decay is taken with.
    kind: 'adamw', 'adam', 'lamb' (You et al., 2019: Adam's update scaled to the
      norm of every array) or 'sgd'.
    warmup_from: of the peak, what the first step of a warm-up is taken with.
    decay_mask: 'kernels' for the weights of linear layers, and what else the
      objective decays; 'all' for all parameters.
    warmup: 'linear', or 'exponential' from `warmup_from` of the peak.
    clip_each: whether every top-level parameter of the objective is clipped by
      the norm of its own gradients, in place of all of them together.
  """

  learning_rate: float = 1e-4
  weight_decay: float = 0.0
  clip: float = 1.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  warmup_steps: int = 0
  decay: str = 'constant'
  final_fraction: float = 0.0
  kind: str = 'adamw'
  warmup_from: float = 0.0
  decay_mask: str = 'kernels'
  warmup: str = 'linear'
  clip_each: bool = False

  def __post_init__(self):
    for name, choices in (
      ('kind', KINDS),
      ('decay', DECAYS),
      ('decay_mask', MASKS),
      ('warmup', WARMUPS),
    ):
      if getattr(self, name) not in choices:
        raise ValueError(f'{name}={getattr(self, name)!r} is not in {choices}')
    if self.warmup_steps < 0:
      raise ValueError(f'warmup_steps={self.warmup_steps} is negative')
    for name in ('final_fraction', 'warmup_from'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'{name}={getattr(self, name)} is not in [0, 1]')
    if self.warmup_from and not self.warmup_steps:
      raise ValueError(
        f'warmup_from={self.warmup_from} is what a warm-up begins with, and '
        'warmup_steps=0 is none: set warmup_steps, or leave it 0'
      )
    if self.final_fraction and self.decay == 'constant':
      raise ValueError(
        f'final_fraction={self.final_fraction} is what a decay ends with, and '
        "decay='constant' is none: choose another, or leave it 0"
      )
    for name, kind in (('decay', 'final_fraction'), ('warmup', 'warmup_from')):
      if getattr(self, name) == 'exponential' and not getattr(self, kind):
        raise ValueError(
          f"{name}='exponential' never reaches {kind}=0: give a fraction of "
          'the peak'
        )

  def check_steps(self, steps: int) -> None:
    """Raises ValueError if a stage of `steps` has no step to decay in."""
    if steps and self.decay != 'constant' and self.warmup_steps >= steps:
      raise ValueError(
        f'warmup_steps={self.warmup_steps} leave no step of {steps} for '
        f'decay={self.decay!r}: shorten the warm-up, or take more steps'
      )


def decayed(config: OptimizerConfig, decays: Decays, params: Params) -> Params:
  """Which parameters are decayed, as a tree of bools.

  Args:
    config: of the objective's optimizer.
    decays: of the objective.
    params: a dict of top-level parameters.
  """

  def touches(path, _):
    return config.decay_mask == 'all' or decays(tuple(key.key for key in path))

  return jax.tree_util.tree_map_with_path(touches, params)


def learning_rate(
  config: OptimizerConfig, steps: int
) -> float | Callable[[chex.Array], chex.Array]:
  """The learning rate, or a function of the updates already made.

  The warm-up begins with `warmup_from` of the peak and reaches it with update
  `warmup_steps`, counted from 0. A decay begins there, and reaches
  `final_fraction` of the peak with the last update, `steps - 1`.

  Args:
    config: of the objective's optimizer.
    steps: updates in the stage.

  Raises:
    ValueError: the stage has no step to decay in.
  """
  peak, warmup = config.learning_rate, config.warmup_steps
  # An optimizer of a plain number has no counter in its state: checkpoints of
  # such a one must go on fitting.
  if not warmup and config.decay == 'constant':
    return peak
  first = peak * config.warmup_from
  rise = None
  if warmup and config.warmup == 'exponential':
    rise = optax.exponential_decay(
      first, warmup, 1 / config.warmup_from, end_value=peak
    )
  elif warmup:
    rise = optax.linear_schedule(first, peak, warmup)
  if config.decay == 'constant':
    return rise
  config.check_steps(steps)
  over = max(steps - 1 - warmup, 1)
  if config.decay == 'linear':
    fall = optax.linear_schedule(peak, peak * config.final_fraction, over)
  elif config.decay == 'exponential':
    fall = optax.exponential_decay(peak, over, config.final_fraction)
  else:
    fall = optax.cosine_decay_schedule(peak, over, config.final_fraction)
  return optax.join_schedules((rise, fall), (warmup,)) if warmup else fall


def rate_after(config: OptimizerConfig, steps: int, count: chex.Array):
  """The rate, [] float32, of the update that follows `count` others."""
  rate = learning_rate(config, steps)
  return jnp.asarray(rate(count) if callable(rate) else rate, jnp.float32)


def _clip(config: OptimizerConfig) -> optax.GradientTransformation:
  together = optax.clip_by_global_norm(config.clip)
  if not config.clip_each:
    return together

  def each(updates, params):
    del params
    return {
      name: together.update(group, optax.EmptyState())[0]
      for name, group in updates.items()
    }

  return optax.stateless(each)


def make_optimizer(
  config: OptimizerConfig, steps: int, decays: Decays
) -> optax.GradientTransformation:
  """Clipping and an optimizer of a dict of top-level parameters.

  Args:
    config: of the objective's optimizer.
    steps: updates in the stage, whose state begins afresh; see
      `learning_rate`.
    decays: of the objective.
  """
  rate = learning_rate(config, steps)
  adam = dict(b1=config.b1, b2=config.b2, eps=config.eps)
  decay = dict(
    weight_decay=config.weight_decay,
    mask=functools.partial(decayed, config, decays),
  )
  clip = _clip(config)
  if config.kind == 'adamw':
    return optax.chain(clip, optax.adamw(rate, **adam, **decay))
  if config.kind == 'lamb':
    return optax.chain(clip, optax.lamb(rate, **adam, **decay))
  if config.kind == 'adam':
    rule = optax.adam(rate, **adam)
  else:
    rule = optax.sgd(rate, momentum=config.b1 or None)
  return optax.chain(clip, optax.add_decayed_weights(**decay), rule)
