"""What stable-baselines3 asks of environments that are one; needs `dream`."""

from typing import Any

from stable_baselines3.common.vec_env import VecEnv


class OneVecEnv(VecEnv):
  """Environments that are stepped together, and cannot be reached one by one.

  Steps and resets are left to subclasses.
  """

  def _asked(self) -> Any:
    """Whose attributes `get_attr` gives."""
    return self

  def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
    found = self._get_indices(indices)
    return [getattr(self._asked(), attr_name) for _ in found]

  def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
    raise NotImplementedError('These environments are one, and have no parts')

  def env_method(
    self, method_name: str, *args: Any, indices: Any = None, **options: Any
  ) -> list[Any]:
    raise NotImplementedError('These environments are one, and have no parts')

  def env_is_wrapped(
    self, wrapper_class: type, indices: Any = None
  ) -> list[bool]:
    return [False for _ in self._get_indices(indices)]
