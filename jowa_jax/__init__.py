"""JOWA, the Jointly-Optimized World-Action model, in JAX and Flax."""

from typing import Any


def load(path: Any, step: int | None = None):
  """Loads a trained agent; see `jowa_jax.agent.load`."""
  # Imported here so that `jowa_jax.games` and the like stay light.
  from jowa_jax import agent

  return agent.load(path, step)
