"""AdamW with the authors' decay mask, one per trained part (Table 13)."""

import dataclasses

import jax
import optax

from jowa_jax.types import Params


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """One part's optimizer.

  Attributes:
    learning_rate: constant after the warm-up.
    weight_decay: decoupled, on the parameters `decay_mask` names.
    clip: largest global norm of the part's gradients.
    b1: first moment's decay.
    b2: second moment's decay.
    eps: Adam's epsilon.
    warmup_steps: of linear warm-up; 0 for none, as in the paper.
  """

  learning_rate: float = 1e-4
  weight_decay: float = 0.0
  clip: float = 1.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  warmup_steps: int = 0


def decay_mask(params: Params) -> Params:
  """Returns which parameters are decayed, as a tree of bools.

  Weights of linear layers and every parameter of stacked heads (biases and
  norms included) are; other biases, norms and embeddings are not.
  """

  def decays(path, _):
    names = [key.key for key in path]
    return names[-1] == 'kernel' or names[0] in ('q_heads', 'policy_heads')

  return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Returns clipping followed by Adam(W) for a dict of top-level parameters."""
  schedule = config.learning_rate
  if config.warmup_steps:
    schedule = optax.linear_schedule(0.0, schedule, config.warmup_steps)
  return optax.chain(
    optax.clip_by_global_norm(config.clip),
    optax.adamw(
      schedule,
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
      mask=decay_mask,
    ),
  )
