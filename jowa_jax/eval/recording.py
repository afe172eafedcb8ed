"""One played rollout with what the agent saw, valued and dreamed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs
from jowa_jax.eval.rollout import decision_keys
from jowa_jax.methods.base import Variables, check_actions
from jowa_jax.methods.factory import acting_options
from jowa_jax.plan.base import Plan
from jowa_jax.train import sharding

# What a policy may say of its actions, and what it is called.
_VALUES = {'q': 'Q value', 'logits': 'Probability'}
_DECODED_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Branches:
  """The best leaf of the plan behind each decision; T of them, H steps deep.

  Step h of the branch of decision t is of the same time as decision t + h + 1.
  """

  frames: np.ndarray  # [T, H, 84, 84] uint8, decoded
  actions: np.ndarray  # [T, H] int32, that lead to those frames
  rewards: np.ndarray  # [T, H] float32 in {-1, 0, 1}
  scores: np.ndarray  # [T] float32, what the leaf is worth to the planner


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
  """The T first decisions of a rollout of one game.

  Raises:
    ValueError: there is no decision, or fields do not fit together.
  """

  game: str
  agent: str  # what played, in words
  seed: int
  rollout: int
  frames: np.ndarray  # [T, 84, 84] uint8, what each decision was made on
  actions: np.ndarray  # [T] int32, of the shared 18
  values: np.ndarray  # [T, 18] float32 of the actions, illegal ones included
  value_name: str  # what `values` are
  rewards: np.ndarray  # [T] float32, unclipped, of each decision
  scores: np.ndarray  # [T] float64, rewards of the decisions before
  ended: bool  # the last decision ended the episode
  dreams: Branches | None  # of planners that tell

  def __post_init__(self):
    games_lib.parse_variant(self.game)
    decisions = len(self.frames)
    if not decisions:
      raise ValueError('A recording needs at least one decision')
    shapes = {
      'frames': (84, 84),
      'actions': (),
      'values': (games_lib.NUM_ACTIONS,),
      'rewards': (),
      'scores': (),
    }
    fields = {name: getattr(self, name) for name in shapes}
    if self.dreams is not None:
      steps = self.dreams.actions.shape[1:]
      shapes |= {
        'dreams.frames': (*steps, 84, 84),
        'dreams.actions': steps[:1],
        'dreams.rewards': steps,
        'dreams.scores': (),
      }
      for name in ('frames', 'actions', 'rewards', 'scores'):
        fields[f'dreams.{name}'] = getattr(self.dreams, name)
    for name, shape in shapes.items():
      if fields[name].shape != (decisions, *shape):
        raise ValueError(
          f'{name} of a recording of {decisions} decisions must be of shape '
          f'{(decisions, *shape)}, not {fields[name].shape}'
        )

  @property
  def score(self) -> float:
    """The rewards of all recorded decisions."""
    return float(self.scores[-1] + self.rewards[-1])


@functools.partial(jax.jit, static_argnums=0)
def _decode(decode: Callable, variables: Variables, tokens: chex.Array):
  return decode(variables, tokens)


def decode_tokens(agent: Agent, tokens: np.ndarray) -> np.ndarray:
  """The frames of tokens, decoded in batches of one fixed size.

  Args:
    agent: one with a tokenizer.
    tokens: [N, K] int32.

  Returns:
    [N, 84, 84] uint8.

  Raises:
    ValueError: the agent has no tokenizer.
  """
  decode = agent.tokenizer.decode
  frames = np.empty((len(tokens), 84, 84), np.uint8)
  for start in range(0, len(tokens), _DECODED_AT_ONCE):
    part = tokens[start : start + _DECODED_AT_ONCE]
    padding = ((0, _DECODED_AT_ONCE - len(part)), (0, 0))
    decoded = _decode(decode, agent.variables, np.pad(part, padding))
    frames[start : start + len(part)] = decoded[: len(part)]
  return frames


def record(
  agent: Agent,
  game: str,
  *,
  protocol: Protocol | None = None,
  seed: int = 0,
  rollout: int = 0,
  max_decisions: int | None = None,
  **options: Any,
) -> Recording:
  """Plays one rollout and keeps what the agent saw, valued and dreamed.

  The emulator and the policy draw what `rollout.evaluate` draws for this
  rollout, so that an evaluated one can be watched; values may differ by the
  rounding of another batch size.

  Args:
    agent: what plays.
    game: as in `games.GAMES`.
    protocol: the rules, the paper's by default; `rollouts` is not read.
    seed: non-negative, of the emulator and of exploration.
    rollout: number of the rollout within its game.
    max_decisions: play no longer; by default to the episode's end.
    **options: of `agent.policy`, such as planner='beam', epsilon left out.

  Returns:
    The recording. It has `dreams` if the planner is a beam search that looks
    ahead.

  Raises:
    ValueError: an unknown game, a number or an option that cannot be.
    FloatingPointError: the agent's values are not finite.
  """
  protocol = protocol or Protocol()
  if max_decisions is not None and max_decisions < 1:
    raise ValueError(f'max_decisions is {max_decisions}: set it to >= 1')
  if rollout < 0:
    raise ValueError(f'rollout is {rollout}: set it to >= 0')
  if 'epsilon' in options:
    raise ValueError('epsilon is given by the protocol: set Protocol.epsilon')
  envs = AtariEnvs([game], 1, protocol, num_threads=1)
  try:
    policy = agent.policy(epsilon=protocol.epsilon, **options)
  except TypeError as error:
    method = agent.config['method']
    raise ValueError(f'{method} has no such option: {error}') from error
  limit = protocol.max_decisions if max_decisions is None else max_decisions
  steps, ended = _play(agent, policy, envs, seed, rollout, limit)
  rewards = np.array([step['reward'] for step in steps], np.float32)
  return Recording(
    game=game,
    agent=_words(agent, options),
    seed=seed,
    rollout=rollout,
    frames=np.stack([step['frame'] for step in steps]),
    actions=np.array([step['action'] for step in steps], np.int32),
    values=np.stack([step['values'] for step in steps]),
    value_name=steps[0]['value_name'],
    rewards=rewards,
    scores=np.cumsum([0, *rewards[:-1]], dtype=np.float64),
    ended=ended,
    dreams=_dreams(agent, [step['dream'] for step in steps]),
  )


def _play(agent, policy, envs, seed, rollout, limit):
  """What was kept of each decision, and if the episode ended."""
  time_step = envs.reset(seed, np.array([rollout]))
  state = sharding.put_beside(agent.variables, policy.init(envs.tasks))
  steps, ended = [], False
  while not ended and len(steps) < limit:
    keys = decision_keys(
      seed, envs.tasks, envs.rollouts, np.array([len(steps)], np.int32)
    )
    actions, state, info = policy.act(agent.variables, state, time_step, keys)
    actions = check_actions(actions, envs.tasks)
    step = _read(info, envs.tasks[0])
    step |= {'frame': time_step.frames[0], 'action': actions[0]}
    time_step, rewards, terminated, truncated = envs.step(actions)
    step['reward'] = rewards[0]
    ended = bool(terminated[0] | truncated[0])
    steps.append(step)
  return steps, ended


def _read(info: dict[str, Any], task: int) -> dict[str, Any]:
  """The values of a decision and the best leaf of its plan, if any."""
  names = [name for name in _VALUES if name in info]
  if not names:
    raise ValueError(
      f'The policy tells none of {tuple(_VALUES)}: it cannot be recorded'
    )
  values = np.asarray(info[names[0]], np.float32)[0]
  if names[0] == 'logits':
    values = np.where(games_lib.legal_mask()[task], values, -np.inf)
    values = np.exp(values - np.logaddexp.reduce(values))
  plan = info.get('plan')
  dream = None
  if isinstance(plan, Plan) and plan.paths.shape[-1]:
    # On the host: a plan is small, and slicing on a device takes calls.
    leaves = jax.device_get(
      (plan.tokens, plan.paths, plan.rewards, plan.scores)
    )
    dream = tuple(leaf[0, 0] for leaf in leaves)
  return {'values': values, 'value_name': _VALUES[names[0]], 'dream': dream}


def _dreams(agent: Agent, dreams: list) -> Branches | None:
  if dreams[0] is None:
    return None
  tokens, paths, rewards, scores = (
    np.stack(x) for x in zip(*dreams, strict=True)
  )
  frames = decode_tokens(agent, tokens.reshape(-1, tokens.shape[-1]))
  return Branches(
    frames=frames.reshape(*paths.shape, 84, 84),
    actions=paths,
    rewards=rewards,
    scores=scores,
  )


def _words(agent: Agent, options: dict[str, Any]) -> str:
  """What plays, such as 'JOWA, beam search, width 2, horizon 2'."""
  acting = acting_options(agent.config).of(options)
  return ', '.join([agent.config['method'].upper(), *acting.words])
