"""How fast any method decides: all environments at once, and one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jowa_jax import games
from jowa_jax.bench.models import (
  peak_bytes,
  random_variables_of,
  seconds_per_call,
  table,
)
from jowa_jax.methods.base import Method, Variables
from jowa_jax.methods.factory import make_method
from jowa_jax.types import FRAME_SHAPE, TimeStep


def run_config(
  config: Mapping[str, Any],
  environments: Sequence[int],
  seconds: float = 3.0,
  **options: Any,
) -> list[dict[str, Any]]:
  """A record for every number of environments, with random weights.

  Args:
    config: a resolved training config, of any method.
    environments: how many, one measurement each.
    seconds: how long each rate is measured, at least.
    **options: of the method's policy; its defaults make JOWA greedy.

  Raises:
    ConfigError: the config is not one.
    ValueError: a number is out of its range.
  """
  if seconds <= 0 or min(environments, default=0) < 1:
    raise ValueError(
      f'environments={list(environments)} must be at least 1 and seconds='
      f'{seconds} above 0'
    )
  method = make_method(config)
  variables = random_variables_of(method)
  # An agent may have no head for others.
  names = games.parse_games(config['data']['games'] or games.GAMES)
  tasks = np.array([games.task_id(name) for name in names], np.int32)
  alone, _ = _measure(method, variables, tasks[:1], seconds, options)
  records = []
  for count in environments:
    playing = np.resize(tasks, count)
    together, held = _measure(method, variables, playing, seconds, options)
    records.append(
      {
        'method': config['method'],
        'environments': count,
        'dtype': method.dtype,
        'device': jax.devices()[0].device_kind,
        'decisions_per_second': count / together,
        'one_by_one_per_second': 1 / alone,
        'peak_bytes': held,
      }
    )
  return records


def _measure(
  method: Method,
  variables: Variables,
  tasks: np.ndarray,
  seconds: float,
  options: Mapping[str, Any],
) -> tuple[float, int]:
  """Seconds of a decision for all environments, and its memory."""
  policy = method.policy(**options)
  rng, count = np.random.default_rng(0), len(tasks)
  step = TimeStep(
    frames=rng.integers(0, 256, (count, *FRAME_SHAPE), np.uint8),
    first=np.zeros(count, bool),
    rewards=np.zeros(count, np.float32),
  )
  keys = jax.random.split(jax.random.key(0), count)
  step, state = jax.device_put((step, policy.init(tasks)))
  compiled = policy.act.lower(variables, state, step, keys).compile()

  def decide():
    nonlocal state
    actions, state, _ = compiled(variables, state, step, keys)
    return actions

  return seconds_per_call(decide, seconds), peak_bytes(compiled)


_COLUMNS = (
  ('method', '{}', 6),
  ('environments', '{}', 12),
  ('dtype', '{}', 9),
  ('decisions_per_second', '{:.1f}', 11),
  ('one_by_one_per_second', '{:.1f}', 11),
  ('peak_bytes', '{:.2e}', 9),
)
_HEADS = 'method environments dtype decisions/s one-by-one bytes'.split()


def describe(records: Sequence[Mapping[str, Any]]) -> str:
  """A table: decisions of all environments a second."""
  return table(_HEADS, _COLUMNS, records)
