"""A small agent that learns in the dream alone, and is scored in the game.

It is PPO of stable-baselines3, which the extra `dream` installs. It reads the
tokens of the last frames: in the dream they are what the world model foresees,
in the game what the tokenizer makes of real frames. Nothing else of the world
model is used when it plays.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.configuration import differences
from jowa_jax.envs.dream import Contexts
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import evaluation
from jowa_jax.eval.evaluation import EvaluatedAgent
from jowa_jax.eval.findings import standard_error
from jowa_jax.eval.players import random_player
from jowa_jax.methods.base import Policy
from jowa_jax.methods.history_policy import DECISION, epsilon_greedy
from jowa_jax.stable_baselines import import_library
from jowa_jax.train.identity import weights_digest

# What needs stable-baselines3, as an error names it.
PUPIL = 'A small agent that learns in the dream'
# (tokens of frames [E, F * K] int32) -> [E, actions of the game] float32.
Logits = Callable[[np.ndarray], np.ndarray]


class Pupil(NamedTuple):
  """What has learned."""

  logits: Logits
  steps: int  # that it was taught
  parameters: int
  weights: str  # a hash of them


@dataclasses.dataclass(frozen=True)
class PupilConfig:
  """How a pupil learns.

  Attributes:
    steps: dreamed by all environments together, at least.
    environments: dreamed together.
    horizon: steps after which a dream is cut off.
    temperature: of the dream; 0 dreams what is likeliest.
    frames: the last ones, whose tokens are read.
    seed: of the dream and the pupil.
  """

  steps: int = 50_000
  environments: int = 16
  horizon: int = 50
  temperature: float = 1.0
  frames: int = 2
  seed: int = 0

  def __post_init__(self):
    for name in ('steps', 'environments', 'horizon', 'frames'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
    for name in ('temperature', 'seed'):
      if getattr(self, name) < 0:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 0')


def appended(
  seen: np.ndarray, newest: np.ndarray, first: np.ndarray
) -> np.ndarray:
  """The last frames' tokens, one frame later; new arrays.

  Args:
    seen: [E, F, K], of the F frames before.
    newest: [E, K].
    first: [E] bool, where an episode begins: its frame stands for all of them.
  """
  begun = np.repeat(newest[:, None], seen.shape[1], axis=1)
  moved = np.concatenate([seen[:, 1:], newest[:, None]], axis=1)
  return np.where(first[:, None, None], begun, moved)


def policy(
  agent: Agent, game: str, frames: int, logits: Logits, epsilon: float
) -> Policy:
  """What a pupil does in the game: it draws from its distribution.

  Args:
    agent: whose tokenizer it reads with.
    game: whose actions it knows.
    frames: that it reads.
    logits: what it has learned.
    epsilon: share of random legal actions.
  """
  legal = np.array(games_lib.LEGAL_ACTIONS[game], np.int32)
  encode = jax.jit(agent.tokenizer.encode)

  def init(tasks: chex.Array) -> chex.Array:
    shape = jax.eval_shape(
      agent.tokenizer.encode,
      agent.variables,
      jax.ShapeDtypeStruct((len(tasks), 84, 84), jnp.uint8),
    ).shape
    return jnp.zeros((shape[0], frames, shape[1]), jnp.int32)

  @jax.jit
  def draw(keys: chex.PRNGKey, values: chex.Array) -> chex.Array:
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, DECISION)
    chosen = jax.vmap(jax.random.categorical)(own, values)
    actions = jnp.asarray(legal)[chosen]
    mask = jnp.zeros(games_lib.NUM_ACTIONS, bool).at[legal].set(True)
    allowed = jnp.broadcast_to(mask, (len(actions), games_lib.NUM_ACTIONS))
    return epsilon_greedy(keys, actions, allowed, epsilon)

  def act(variables: Any, seen: chex.Array, time_step: Any, keys: Any):
    tokens = encode(variables, time_step.frames)
    seen = appended(*map(np.asarray, (seen, tokens, time_step.first)))
    values = logits(seen.reshape(len(seen), -1))
    return draw(keys, values), seen, {}

  return Policy(init, act)


def learned(
  agent: Agent,
  game: str,
  contexts: Contexts,
  config: PupilConfig,
  directory: pathlib.Path,
) -> Pupil:
  """A pupil that has learned; one that the directory holds learns no more.

  Args:
    agent: that dreams.
    game: that it dreams.
    contexts: that dreams begin with.
    config: how it learns.
    directory: where `pupil.zip` is written, and `learning.json`.

  Raises:
    ValueError: see `stable_baselines.import_library`; or the agent cannot
      dream, or the directory is of other settings.
  """
  import_library(PUPIL)
  from jowa_jax.play import pupil_ppo

  settings = {
    **dataclasses.asdict(config),
    'game': game,
    'dreamed_by': weights_digest(agent.variables.params),
    'contexts': weights_digest(contexts),
  }
  told, saved = directory / 'learning.json', directory / 'pupil.zip'
  if saved.exists():
    found = json.loads(told.read_text())['settings']
    if changed := differences(found, settings):
      raise ValueError(
        f'{directory} holds what was learned with other settings '
        f'({"; ".join(changed)}): choose another --output'
      )
  else:
    model, curve = pupil_ppo.train(agent, game, contexts, config)
    record = {'settings': settings, 'learning': curve}
    files.write_text(told, json.dumps(record, indent=2) + '\n')
    with files.written_whole(saved) as temporary:
      model.save(temporary)
  return pupil_ppo.load(saved)


def scores(
  agent: Agent,
  game: str,
  frames: int,
  pupil: Pupil,
  directory: pathlib.Path,
  protocol: Protocol,
  seed: int = 0,
) -> dict[str, dict[str, Any]]:
  """What a pupil and random play score in the real game, by the same rules.

  The episodes are written as `launch.evaluate` writes them, as `pupil.jsonl`
  and `random.jsonl`.

  Args:
    agent: whose tokenizer the pupil reads with.
    game: that is played.
    frames: that it reads.
    pupil: what has learned.
    directory: where episodes are written; those that it holds are not played
      again.
    protocol: the rules.
    seed: of emulators and of what is drawn.

  Returns:
    Of both, the mean score, its standard error and all scores.

  Raises:
    RecordError: the directory holds episodes of another evaluation.
  """

  def acting(epsilon: float) -> Policy:
    return policy(agent, game, frames, pupil.logits, epsilon)

  source = {
    'method': 'ppo',
    'checkpoint': str(directory),
    'checkpoint_step': pupil.steps,
    'weights': pupil.weights,
    'parameters': pupil.parameters,
  }
  found = {}
  for player in (
    EvaluatedAgent('pupil', acting, agent.variables, source),
    random_player('random'),
  ):
    path = directory / f'{player.name}.jsonl'
    rollouts = evaluation.play(player, [game], protocol, seed, path)
    values = [rollout.score for rollout in rollouts]
    found[player.name] = {
      'mean': float(np.mean(values)),
      'standard_error': standard_error(values),
      'scores': values,
    }
  return found
