"""Plays complete episodes with a policy, many at once."""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs
from jowa_jax.eval.progress import Progress
from jowa_jax.eval.records import Rollout
from jowa_jax.methods.base import Policy, check_actions
from jowa_jax.methods.factory import make_method
from jowa_jax.train import sharding
from jowa_jax.types import TimeStep


def random_policy() -> Policy:
  """Uniform play over each game's legal actions; no variables."""
  legal = games_lib.legal_mask()

  def init(tasks):
    return jnp.asarray(legal[np.asarray(tasks)])

  @jax.jit
  def act(variables, state, time_step, keys):
    del variables, time_step
    logits = jnp.where(state, 0.0, -jnp.inf)
    actions = jax.vmap(jax.random.categorical)(keys, logits)
    return actions.astype(jnp.int32), state, {}

  return Policy(init=init, act=act)


@jax.jit
def decision_keys(
  seed: chex.Array,
  tasks: chex.Array,
  rollouts: chex.Array,
  decisions: chex.Array,
) -> chex.PRNGKey:
  """What environments draw from at a decision, [E] keys.

  They depend on nothing else, so that a rollout can be repeated alone.

  Args:
    seed: [] of the evaluation.
    tasks: [E] game of each environment.
    rollouts: [E] number of the rollout within its game.
    decisions: [E] decisions taken in it.
  """

  def one(*numbers):
    key = jax.random.key(seed)
    for number in numbers:
      key = jax.random.fold_in(key, number)
    return key

  return jax.vmap(one)(tasks, rollouts, decisions)


def evaluate(
  policy: Policy,
  variables: Any,
  games: Sequence[str],
  protocol: Protocol,
  seed: int,
  *,
  agent: str,
  numbers: Sequence[int] | None = None,
  done: Collection[tuple[str, int]] = (),
  slots_per_game: int | None = None,
  shrink: bool = False,
  setups: Mapping[str, Mapping[str, Any]] | None = None,
  on_rollout: Callable[[Rollout], None] = lambda rollout: None,
  before_decision: Callable[[], None] = lambda: None,
  progress: bool = True,
  num_threads: int = 0,
  rom_directory: str | os.PathLike = '',
) -> list[Rollout]:
  """Plays complete episodes of every game.

  All games and slots share one `policy.act` call per decision, of a fixed
  batch shape, divided over the devices of this process. Rollout i of the list
  is played in slot i % slots of its game; a slot that has played all of its
  rollouts idles in the batch, unless that shrinks. `protocol.epsilon` is the
  policy's business: it is applied inside `act`.

  The emulator's and the policy's random numbers depend on (seed, game,
  rollout) and the decision alone, and so does the place in the batch: whatever
  is `done` already, the others come out the same; by rounding alone they may
  not if the batch shrinks, as that depends on which of the others run.

  Args:
    policy: what plays.
    variables: its parameters, handed to `policy.act`.
    games: distinct game names.
    protocol: the rules.
    seed: non-negative integer.
    agent: the name to write into the records.
    numbers: the rollouts of every game, distinct; all of the protocol's by
      default.
    done: rollouts (game, number) to leave out.
    slots_per_game: environments of each game, one for each of `numbers` by
      default; fewer make the batch smaller.
    shrink: whether the batch is halved, and `policy.act` compiled again, when
      half of it idles for good: for episodes of very different lengths.
    setups: of each game, to write into the records.
    on_rollout: called with every rollout as it ends.
    before_decision: called before each decision of all environments.
    progress: whether to draw a progress bar.
    num_threads: emulator threads of each game, 0 for one per core.
    rom_directory: of other cartridges than ale-py's, see `envs.ale.rom_path`.

  Returns:
    What was played, by game then rollout.

  Raises:
    ValueError: a bad game, seed, rollout or `slots_per_game`.
    FloatingPointError: the policy's values are not finite.
  """
  numbers = list(range(protocol.rollouts) if numbers is None else numbers)
  if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
    raise ValueError(f'rollouts {numbers} must be distinct and at least 0')
  slots = len(numbers) if slots_per_game is None else slots_per_game
  if not 1 <= slots <= len(numbers):
    raise ValueError(
      f'slots_per_game is {slots}: set it to 1..{len(numbers)}, '
      'the number of rollouts'
    )
  envs = AtariEnvs(games, slots, protocol, num_threads, rom_directory)
  queues = [
    [n for n in numbers[slot::slots] if (game, n) not in done]
    for game in envs.games
    for slot in range(slots)
  ]
  tally = _Tally(envs, agent, queues, setups or {})
  batch = _Batch(policy, variables, envs)
  _, rollouts = tally.take_next()
  time_step = envs.reset(seed, rollouts)
  limit = protocol.max_decisions
  with Progress(agent, tally.total, limit, progress) as bar:
    while tally.active.any():
      before_decision()
      if shrink and not tally.waiting:
        batch.shrink(tally.active)
      actions = batch.act(seed, tally.decisions, time_step)
      following, rewards, terminated, truncated = envs.step(
        actions, tally.active
      )
      bar.count(tally.running)
      for rollout in tally.add(rewards, terminated, truncated):
        on_rollout(rollout)
        bar.finish(rollout)
      waiting, rollouts = tally.take_next()
      if waiting.any():
        begun = envs.restart(waiting, rollouts)
        following = TimeStep(
          frames=begun.frames,
          first=following.first | begun.first,
          rewards=np.where(begun.first, 0, following.rewards),
        )
      time_step = following
  order = {game: i for i, game in enumerate(envs.games)}
  return sorted(tally.finished, key=lambda r: (order[r.game], r.rollout))


class _Batch:
  """The environments that a policy acts for, and what it remembers of them.

  They are divided over the devices.
  """

  def __init__(self, policy: Policy, variables: Any, envs: AtariEnvs):
    self._act = policy.act
    self._envs = envs
    mesh = sharding.acting_mesh(envs.num_envs)
    self._devices = mesh.size
    self._place = sharding.batch_sharding(mesh)
    self._variables = jax.device_put(variables, sharding.replicated(mesh))
    self._state = jax.device_put(policy.init(envs.tasks), self._place)
    self._members = np.arange(envs.num_envs)

  def act(
    self, seed: int, decisions: np.ndarray, time_step: TimeStep
  ) -> np.ndarray:
    """Actions [E] int32 of all environments, 0 for those that were left out.

    Args:
      seed: of the evaluation.
      decisions: [E], taken in each rollout.
      time_step: of all environments.
    """
    envs, members = self._envs, self._members
    keys = decision_keys(
      seed, envs.tasks[members], envs.rollouts[members], decisions[members]
    )
    shown = jax.tree.map(lambda leaf: leaf[members], time_step)
    chosen, self._state, _ = self._act(
      self._variables,
      self._state,
      jax.device_put(shown, self._place),
      jax.device_put(keys, self._place),
    )
    actions = np.zeros(envs.num_envs, np.int32)
    actions[members] = check_actions(chosen, envs.tasks[members])
    return actions

  def shrink(self, active: np.ndarray) -> None:
    """Leaves idle environments out, if half of the batch are.

    What remains divides over the devices and is more than one environment,
    for which planners decode in another way.

    Args:
      active: [E] bool; the others have no more to play.
    """
    running = active[self._members]
    half = len(running) // 2
    if running.sum() > half or half < 2 or half % self._devices:
      return
    kept = np.sort(np.argsort(~running, kind='stable')[:half])
    state = jax.tree.map(lambda leaf: leaf[kept], self._state)
    self._state = jax.device_put(state, self._place)
    self._members = self._members[kept]


class _Tally:
  """Sums of the running episodes, the finished ones and those to come."""

  def __init__(
    self,
    envs: AtariEnvs,
    agent: str,
    queues: Sequence[list[int]],
    setups: Mapping[str, Mapping[str, Any]],
  ):
    self._envs = envs
    self._agent = agent
    self._queues = queues
    self._setups = setups
    self._start = time.monotonic()
    self.total = sum(map(len, queues))
    self.active = np.zeros(envs.num_envs, bool)
    self.finished: list[Rollout] = []
    # Sums of unclipped scores are exact in float64.
    self._score = np.zeros(envs.num_envs)
    self._clipped = np.zeros(envs.num_envs)
    self.decisions = np.zeros(envs.num_envs, np.int32)

  @property
  def running(self) -> np.ndarray:
    """Decisions so far of each running episode."""
    return self.decisions[self.active]

  @property
  def waiting(self) -> bool:
    """Whether there are rollouts that have not begun."""
    return any(self._queues)

  def add(self, rewards, terminated, truncated) -> list[Rollout]:
    """Counts one step of the active slots; returns the episodes it ended."""
    self._score += rewards
    self._clipped += np.clip(rewards, -1, 1)
    self.decisions += 1
    ended = np.flatnonzero(self.active & (terminated | truncated))
    rollouts = [self._finish(env, bool(terminated[env])) for env in ended]
    self.active[ended] = False
    self.finished.extend(rollouts)
    return rollouts

  def take_next(self) -> tuple[np.ndarray, np.ndarray]:
    """Gives idle slots their next rollouts: (mask [E], rollouts [E])."""
    waiting = np.zeros_like(self.active)
    rollouts = np.zeros(len(waiting), np.int64)
    for env in np.flatnonzero(~self.active):
      if self._queues[env]:
        waiting[env], rollouts[env] = True, self._queues[env].pop(0)
    for total in (self._score, self._clipped, self.decisions):
      total[waiting] = 0
    self.active |= waiting
    return waiting, rollouts

  def _finish(self, env: int, terminated: bool) -> Rollout:
    game = self._envs.game_of(env)
    return Rollout(
      agent=self._agent,
      game=game,
      rollout=int(self._envs.rollouts[env]),
      seed=self._envs.seed_of(env),
      score=float(self._score[env]),
      clipped_score=float(self._clipped[env]),
      decisions=int(self.decisions[env]),
      frames=int(self._envs.episode_frames[env]),
      seconds=round(time.monotonic() - self._start, 3),
      terminated=terminated,
      setup=dict(self._setups.get(game, {})),
    )


def make_player(
  config: Mapping[str, Any], games: Sequence[str] = ()
) -> Callable[[Any, Callable[[], None]], dict[str, float]]:
  """What plays during training: variables -> mean scores.

  Its second argument is called before each decision. Scores are named 'play/'
  and the game; 'play/human_normalized' is the mean of the normalised scores, of
  games that have references.

  Args:
    config: of training; its method plays greedily.
    games: or variants that are played; those of the data if empty.

  Raises:
    ValueError: a game or a number is none.
  """
  run = config['run']
  games = games or games_lib.parse_games(config['data']['games'])
  protocol = Protocol(
    rollouts=run['play_episodes'], max_frames=run['play_max_frames']
  )
  policy = make_method(config).policy(epsilon=protocol.epsilon)

  def play(
    variables: Any, before_decision: Callable[[], None]
  ) -> dict[str, float]:
    rollouts = evaluate(
      policy,
      variables,
      games,
      protocol,
      run['seed'],
      agent=config['method'],
      before_decision=before_decision,
      progress=False,
    )
    scores = {
      game: np.mean([r.score for r in rollouts if r.game == game])
      for game in games
    }
    values = {f'play/{game}': float(score) for game, score in scores.items()}
    human = [
      games_lib.normalized_score(*item)
      for item in scores.items()
      if games_lib.has_reference(item[0])
    ]
    if human:
      values['play/human_normalized'] = float(np.mean(human))
    return values

  return play
