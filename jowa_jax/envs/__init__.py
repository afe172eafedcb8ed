"""Environments: real games, and games that are dreamed."""

from typing import Any


def __getattr__(name: str) -> Any:
  """`DreamEnv` and `DreamVectorEnv`, for which Gymnasium is imported."""
  # Emulators are used where nobody dreams.
  if name in ('Contexts', 'DreamEnv', 'DreamVectorEnv'):
    from jowa_jax.envs import dream

    return getattr(dream, name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
