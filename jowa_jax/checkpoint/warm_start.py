"""Starting a run from parameters of another."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.methods.base import Variables


def warm_start(
  variables: Variables,
  shardings: Variables,
  *,
  checkpoints: str,
  params: Sequence[str],
) -> Variables:
  """Returns variables with some top-level parameters taken from a checkpoint.

  Args:
    variables: fresh ones.
    shardings: where they go.
    checkpoints: directory of another run's checkpoints; the latest is read.
    params: top-level names, such as ('tokenizer',).

  Raises:
    CheckpointError: there is no checkpoint, a name is not in both, or shapes
      differ.
  """
  unknown = sorted(set(params) - set(variables.params))
  if unknown or not params:
    raise CheckpointError(
      f'init_from.params={tuple(params)} must name some of '
      f'{sorted(variables.params)}'
    )
  template = Variables(
    params={name: variables.params[name] for name in params},
    targets={},
    extras={},
  )
  places = template.replace(
    params={name: shardings.params[name] for name in params}
  )
  source = Checkpoints(checkpoints, create=False)
  try:
    restored = source.restore_variables(template, places, partial=True)
  finally:
    source.close()
  # Slow copies start equal to what they are copies of.
  copies = {
    name: jax.tree.map(jnp.copy, value)
    for name, value in restored.params.items()
    if name in variables.targets
  }
  return variables.replace(
    params={**variables.params, **restored.params},
    targets={**variables.targets, **copies},
  )
