"""A trained agent from its checkpoint, ready to act."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.checkpoint.packed import write_packed
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.checkpoint.warm_start import open_run
from jowa_jax.methods.base import (
  Method,
  Policy,
  Simulator,
  Tokenizer,
  Variables,
  check_actions,
)
from jowa_jax.methods.factory import make_method, without_adapters
from jowa_jax.train import sharding
from jowa_jax.types import TimeStep


class Agent:
  """A method with trained variables, and the state of the games it plays.

  `policy` gives the pure functions; `begin` and `act` keep the context of a
  batch of environments for whoever does not want to.

  Attributes:
    config: what the agent was trained with.
    method: its pure functions.
    variables: its parameters.
    step: training steps taken.
    data: what it was trained on, see `TrainingData.identity`.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    method: Method,
    variables: Variables,
    step: int,
    data: Mapping[str, Any] | None = None,
  ):
    self.config = config
    self.method = method
    self.variables = variables
    self.step = step
    self.data = data or {}
    self._policy: Policy | None = None

  @property
  def games(self) -> tuple[str, ...]:
    """The games it was trained on."""
    return games_lib.parse_games(self.config['data']['games'])

  @property
  def tokenizer(self) -> Tokenizer:
    """How it reads frames as tokens; ValueError if it does not."""
    if self.method.tokenizer is None:
      raise ValueError(f'{self.config["method"]} has no tokenizer')
    return self.method.tokenizer

  @property
  def simulator(self) -> Simulator:
    """How it imagines what follows; ValueError if it does not."""
    if self.method.simulator is None:
      raise ValueError(f'{self.config["method"]} has no simulator')
    return self.method.simulator

  def policy(self, **options: Any) -> Policy:
    """The agent's policy.

    Args:
      **options: of the method, see `methods.jowa_policy.JowaActing` and
        `methods.mtbc.MtbcActing`: JOWA takes planner ('none', 'beam' or
        'mcts'), width, horizon, temperature, context_length, epsilon and more;
        MTBC context_length and epsilon. See `methods.mgdt_policy.MgdtActing`
        and `methods.edt_policy.EdtActing` for decision transformers'.
    """
    return self.method.policy(**options)

  def begin(self, games: Sequence[str], seed: int = 0, **options: Any) -> None:
    """Prepares for one environment per entry of `games`.

    Args:
      games: names, such as ('Assault', 'Assault', 'Carnival'), or of variants,
        such as 'Freeway@m1d0', which are played as their games.
      seed: of exploration.
      **options: of `policy`.
    """
    variants = [games_lib.parse_variant(game) for game in games]
    tasks = [games_lib.task_id(variant.game) for variant in variants]
    tasks = np.array(tasks, np.int32)
    self._policy = self.policy(**options)
    self._tasks = tasks
    self._state = sharding.put_beside(self.variables, self._policy.init(tasks))
    self._key = jax.random.key(seed)
    self._decisions = 0
    self._environments = len(tasks)

  def act(
    self, frames: Any, first: Any = None, rewards: Any = None
  ) -> np.ndarray:
    """One action per environment, [E] int32 of ALE's 18.

    Args:
      frames: [E, 84, 84] uint8, in the order of `begin`.
      first: [E] bool, environments whose episode begins with this frame;
        default all at the first call, none later.
      rewards: [E] float32 of the decision before, for agents that read them.

    Raises:
      ValueError: `begin` was not called, or frames have another shape.
      FloatingPointError: the agent's values are not finite.
    """
    if self._policy is None:
      raise ValueError('Call agent.begin(games) before agent.act(frames)')
    frames = jnp.asarray(frames)
    expected = (self._environments, 84, 84)
    if frames.shape != expected or frames.dtype != jnp.uint8:
      raise ValueError(
        f'frames must be uint8 {expected}, got {frames.dtype} {frames.shape}'
      )
    if first is None:
      first = np.full(self._environments, self._decisions == 0)
    actions, self._state, _ = self._policy.act(
      self.variables,
      self._state,
      TimeStep(
        frames=frames,
        first=jnp.asarray(first, bool),
        rewards=None if rewards is None else jnp.asarray(rewards, jnp.float32),
      ),
      jax.random.split(
        jax.random.fold_in(self._key, self._decisions), self._environments
      ),
    )
    self._decisions += 1
    return check_actions(actions, self._tasks)


def load(path: str | pathlib.Path, step: int | None = None) -> Agent:
  """Loads an agent on the default device, low-rank adapters merged.

  Args:
    path: a run's directory, or its `checkpoints` directory; a packed agent's
      file; or 'pretrained', the one that the package ships.
    step: which checkpoint; default the latest.

  Raises:
    CheckpointError: there is no such checkpoint.
  """
  with contextlib.closing(open_run(path)) as checkpoints:
    meta = checkpoints.meta(step)
    method = make_method(meta['config'])
    template = variable_shapes(method)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: device, template)
    variables = checkpoints.restore_variables(template, shardings, meta['step'])
  method, variables = without_adapters(meta['config'], variables)
  return Agent(
    meta['config'], method, variables, meta['step'], meta.get('data')
  )


def pack(
  checkpoint: str | pathlib.Path,
  output: str | pathlib.Path,
  step: int | None = None,
) -> int:
  """Packs a checkpoint into one file of float16, low-rank adapters merged.

  Args:
    checkpoint: see `load`.
    output: the file, which ends in .safetensors.
    step: which checkpoint; default the latest.

  Returns:
    The bytes of the file.

  Raises:
    CheckpointError: there is no such checkpoint, or it cannot be packed.
  """
  agent = load(checkpoint, step)
  meta = {'step': agent.step, 'config': agent.config, 'data': agent.data}
  return write_packed(output, agent.variables, meta)
