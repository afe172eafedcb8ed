"""AdamW with the authors' decay mask, one per trained part (Table 13)."""

import dataclasses
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from jowa_jax.types import Params

DECAYS = ('constant', 'linear', 'cosine')


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """One part's optimizer.

  Attributes:
    learning_rate: at the peak, which the warm-up ends with.
    weight_decay: decoupled, on the parameters `decay_mask` names.
    clip: largest global norm of the part's gradients.
    b1: first moment's decay.
    b2: second moment's decay.
    eps: Adam's epsilon.
    warmup_steps: of linear warm-up; 0 for none, as in the paper.
    decay: of the learning rate from there to the stage's last step:
      'constant' for none, as in the paper, 'linear' or 'cosine'.
    final_fraction: of the peak, what the last step of a decay is taken with.
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

  def __post_init__(self):
    if self.warmup_steps < 0:
      raise ValueError(f'warmup_steps={self.warmup_steps} is negative')
    if self.decay not in DECAYS:
      raise ValueError(f'decay={self.decay!r} is not in {DECAYS}')
    if not 0 <= self.final_fraction <= 1:
      raise ValueError(f'final_fraction={self.final_fraction} is not in [0, 1]')
    if self.final_fraction and self.decay == 'constant':
      raise ValueError(
        f'final_fraction={self.final_fraction} is what a decay ends with, and '
        "decay='constant' is none: choose another, or leave it 0"
      )

  def check_steps(self, steps: int) -> None:
    """Raises ValueError if a stage of `steps` has no step to decay in."""
    if steps and self.decay != 'constant' and self.warmup_steps >= steps:
      raise ValueError(
        f'warmup_steps={self.warmup_steps} leave no step of {steps} for '
        f'decay={self.decay!r}: shorten the warm-up, or take more steps'
      )


def decay_mask(params: Params) -> Params:
  """Returns which parameters are decayed, as a tree of bools.

  Weights of linear layers and every parameter of stacked heads (biases and
  norms included) are; other biases, norms and embeddings are not.
  """

  def decays(path, _):
    names = [key.key for key in path]
    return names[-1] == 'kernel' or names[0] in ('q_heads', 'policy_heads')

  return jax.tree_util.tree_map_with_path(decays, params)


def learning_rate(
  config: OptimizerConfig, steps: int
) -> float | Callable[[chex.Array], chex.Array]:
  """Returns the learning rate, or a function of the updates already made.

  The warm-up begins with 0 and reaches the peak with update `warmup_steps`,
  counted from 0. A decay begins there, and reaches `final_fraction` of the
  peak with the last update, `steps - 1`.

  Args:
    config: of the part's optimizer.
    steps: updates in the stage.

  Raises:
    ValueError: the stage has no step to decay in.
  """
  peak, warmup = config.learning_rate, config.warmup_steps
  # An optimizer of a plain number has no counter in its state: checkpoints of
  # such a one must go on fitting.
  if not warmup and config.decay == 'constant':
    return peak
  rise = optax.linear_schedule(0.0, peak, warmup) if warmup else None
  if config.decay == 'constant':
    return rise
  config.check_steps(steps)
  over = max(steps - 1 - warmup, 1)
  if config.decay == 'linear':
    fall = optax.linear_schedule(peak, peak * config.final_fraction, over)
  else:
    fall = optax.cosine_decay_schedule(peak, over, config.final_fraction)
  return optax.join_schedules((rise, fall), (warmup,)) if warmup else fall


def rate_after(config: OptimizerConfig, steps: int, count: chex.Array):
  """Returns the rate, [] float32, of the update that follows `count` others."""
  rate = learning_rate(config, steps)
  return jnp.asarray(rate(count) if callable(rate) else rate, jnp.float32)


def make_optimizer(
  config: OptimizerConfig, steps: int
) -> optax.GradientTransformation:
  """Returns clipping followed by Adam(W) for a dict of top-level parameters.

  Args:
    config: of the part's optimizer.
    steps: updates in the stage, whose state begins afresh; see
      `learning_rate`.
  """
  return optax.chain(
    optax.clip_by_global_norm(config.clip),
    optax.adamw(
      learning_rate(config, steps),
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
      mask=decay_mask,
    ),
  )
