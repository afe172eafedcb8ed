"""Plays complete episodes with a policy and keeps their scores."""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.eval.atari_env import AtariEnvs
from jowa_jax.eval.protocol import Protocol
from jowa_jax.methods.base import Policy, check_actions
from jowa_jax.methods.factory import make_method
from jowa_jax.train import sharding
from jowa_jax.types import TimeStep


@dataclasses.dataclass(frozen=True)
class Rollout:
  """One complete episode."""

  agent: str
  game: str
  rollout: int  # number of the rollout within its game
  seed: int  # the emulator's seed
  score: float  # sum of the game's own rewards
  clipped_score: float  # sum of the rewards clipped to [-1, 1]
  decisions: int
  frames: int  # emulator frames
  seconds: float  # wall time from the evaluation's start to this episode's end
  terminated: bool  # game over; false if it ran out of frames


def random_policy() -> Policy:
  """Returns uniform play over each game's legal actions; no variables."""
  legal = games_lib.legal_mask()

  def init(tasks):
    return jnp.asarray(legal[np.asarray(tasks)])

  @jax.jit
  def act(variables, state, time_step, key):
    del variables, time_step
    logits = jnp.where(state, 0.0, -jnp.inf)
    actions = jax.random.categorical(key, logits, axis=-1)
    return actions.astype(jnp.int32), state, {}

  return Policy(init=init, act=act)


def evaluate(
  policy: Policy,
  variables: Any,
  games: Sequence[str],
  protocol: Protocol,
  seed: int,
  *,
  agent: str,
  slots_per_game: int | None = None,
  progress: bool = True,
  num_threads: int = 0,
) -> list[Rollout]:
  """Plays `protocol.rollouts` complete episodes of every game.

  All games and slots share one `policy.act` call per decision, of a fixed
  batch shape, divided over the devices of this process. A slot that ends
  takes its game's next rollout; when none is left it idles in the batch and no
  longer counts. `protocol.epsilon` is the policy's business: it is applied
  inside `act`.

  A rollout's emulator seed depends on (seed, game, rollout) alone, the
  policy's random numbers on (seed, decision, slot): the same call gives the
  same scores, another `slots_per_game` need not.

  Args:
    policy: what plays.
    variables: its parameters, handed to `policy.act`.
    games: distinct game names.
    protocol: the rules.
    seed: non-negative integer.
    agent: the name to write into the records.
    slots_per_game: environments of each game, `protocol.rollouts` by default;
      fewer make the batch smaller.
    progress: whether to draw a progress bar.
    num_threads: emulator threads of each game, 0 for one per core.

  Returns:
    `len(games) * protocol.rollouts` records, by game then rollout.

  Raises:
    ValueError: a bad game, seed or `slots_per_game`.
    FloatingPointError: the policy's values are not finite.
  """
  slots = protocol.rollouts if slots_per_game is None else slots_per_game
  if not 1 <= slots <= protocol.rollouts:
    raise ValueError(
      f'slots_per_game is {slots}: set it to 1..{protocol.rollouts}, '
      'the number of rollouts'
    )
  envs = AtariEnvs(games, slots, protocol, num_threads)
  tally = _Tally(envs, agent, protocol.rollouts)
  # Environments are divided over the devices.
  mesh = sharding.acting_mesh(envs.num_envs)
  place = sharding.batch_sharding(mesh)
  variables = jax.device_put(variables, sharding.replicated(mesh))
  state = jax.device_put(policy.init(envs.tasks), place)
  key = jax.random.key(seed)
  time_step = envs.reset(seed)
  step = 0
  with _Progress(agent, tally.total, progress) as bar:
    while tally.active.any():
      actions, state, _ = policy.act(
        variables,
        state,
        jax.device_put(time_step, place),
        jax.random.fold_in(key, step),
      )
      actions = check_actions(actions, envs.tasks)
      following, rewards, terminated, truncated = envs.step(
        actions, tally.active
      )
      bar.count(tally.running)
      for rollout in tally.add(rewards, terminated, truncated):
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
      step += 1
  order = {game: i for i, game in enumerate(envs.games)}
  return sorted(tally.finished, key=lambda r: (order[r.game], r.rollout))


class _Tally:
  """Sums of the running episodes, the finished ones and those to come."""

  def __init__(self, envs: AtariEnvs, agent: str, rollouts: int):
    self._envs = envs
    self._agent = agent
    self._rollouts = rollouts
    self._next = dict.fromkeys(envs.games, envs.envs_per_game)
    self._start = time.monotonic()
    self.total = rollouts * len(envs.games)
    self.active = np.ones(envs.num_envs, bool)
    self.finished: list[Rollout] = []
    # Sums of unclipped scores are exact in float64.
    self._score = np.zeros(envs.num_envs)
    self._clipped = np.zeros(envs.num_envs)
    self._decisions = np.zeros(envs.num_envs, np.int64)

  @property
  def running(self) -> np.ndarray:
    """Decisions so far of each running episode."""
    return self._decisions[self.active]

  def add(self, rewards, terminated, truncated) -> list[Rollout]:
    """Counts one step of the active slots; returns the episodes it ended."""
    self._score += rewards
    self._clipped += np.clip(rewards, -1, 1)
    self._decisions += 1
    ended = np.flatnonzero(self.active & (terminated | truncated))
    rollouts = [self._finish(env, bool(terminated[env])) for env in ended]
    self.active[ended] = False
    self.finished.extend(rollouts)
    return rollouts

  def take_next(self) -> tuple[np.ndarray, np.ndarray]:
    """Gives idle slots their game's next rollouts: (mask [E], rollouts [E])."""
    waiting = np.zeros_like(self.active)
    rollouts = np.zeros(len(waiting), np.int64)
    for env in np.flatnonzero(~self.active):
      game = self._envs.game_of(env)
      if self._next[game] < self._rollouts:
        waiting[env], rollouts[env] = True, self._next[game]
        self._next[game] += 1
    for total in (self._score, self._clipped, self._decisions):
      total[waiting] = 0
    self.active |= waiting
    return waiting, rollouts

  def _finish(self, env: int, terminated: bool) -> Rollout:
    return Rollout(
      agent=self._agent,
      game=self._envs.game_of(env),
      rollout=int(self._envs.rollouts[env]),
      seed=self._envs.seed_of(env),
      score=float(self._score[env]),
      clipped_score=float(self._clipped[env]),
      decisions=int(self._decisions[env]),
      frames=int(self._envs.episode_frames[env]),
      seconds=round(time.monotonic() - self._start, 3),
      terminated=terminated,
    )


class _Progress:
  """A bar of decisions, with the pace, the time left and mean scores.

  How long an episode will be is not known: see `expected_decisions`.
  """

  def __init__(self, agent: str, total: int, enabled: bool):
    self._bar = tqdm.tqdm(
      desc=f'evaluate {agent}',
      unit='decision',
      disable=not enabled,
      dynamic_ncols=True,
    )
    self._episodes = total
    self._finished: list[Rollout] = []
    self._shown = time.monotonic()

  def __enter__(self):
    return self

  def __exit__(self, failure, *unused):
    if failure is None:
      self._bar.total = self._bar.n
    self._bar.close()

  def count(self, running: np.ndarray):
    """Counts one more decision of the running episodes of given lengths."""
    self._bar.n += len(running)
    if time.monotonic() - self._shown > 1:
      self._shown = time.monotonic()
      self._bar.total = expected_decisions(
        [rollout.decisions for rollout in self._finished],
        running,
        self._episodes,
      )
      self._bar.refresh()

  def finish(self, rollout: Rollout):
    self._finished.append(rollout)
    scores: dict[str, list[float]] = {}
    for done in self._finished:
      scores.setdefault(done.game, []).append(done.score)
    means = [f'{game} {np.mean(s):.0f}' for game, s in list(scores.items())[:4]]
    ended = f'{len(self._finished)}/{self._episodes} episodes'
    self._bar.set_postfix_str(', '.join([ended, *means]), refresh=False)


def expected_decisions(
  finished: Sequence[int], running: Sequence[int], episodes: int
) -> int:
  """Returns a guess at the decisions of all episodes.

  An unfinished episode is taken to be as long as the finished ones on average,
  or twice as long when it is longer already, and so on; before one has
  finished, to last as long again as it has so far.

  Args:
    finished: decisions of the finished episodes.
    running: decisions so far of the running ones.
    episodes: how many there will be, those not begun included.
  """
  running = np.asarray(running, float)
  if len(finished):
    typical = np.mean(finished)
    expected = (running // typical + 1) * typical
  else:
    expected = 2 * running
    typical = np.mean(expected)
  waiting = episodes - len(finished) - len(running)
  return round(sum(finished) + expected.sum() + waiting * typical)


def write_rollouts(path: str | os.PathLike, rollouts: Iterable[Rollout]):
  """Writes one JSON object per line, replacing `path` when complete."""
  lines = [json.dumps(dataclasses.asdict(rollout)) for rollout in rollouts]
  files.write_text(path, ''.join(line + '\n' for line in lines))


def read_rollouts(path: str | os.PathLike) -> list[Rollout]:
  """Reads what `write_rollouts` wrote.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is not a rollout; file and line are named.
  """
  rollouts = []
  lines = pathlib.Path(path).read_text().splitlines()
  for number, line in enumerate(lines, 1):
    try:
      rollouts.append(_parse(json.loads(line)))
    except (ValueError, TypeError) as error:
      raise ValueError(
        f'{path}, line {number} is not a rollout: {error}. '
        'Delete the file and evaluate again'
      ) from error
  return rollouts


def _parse(record: Any) -> Rollout:
  if not isinstance(record, dict):
    raise TypeError(f'expected a JSON object, found {record!r}')
  types = {field.name: field.type for field in dataclasses.fields(Rollout)}
  if missing := types.keys() - record.keys():
    raise TypeError(f'lacks {sorted(missing)}')
  if unknown := record.keys() - types.keys():
    raise TypeError(f'has unknown fields {sorted(unknown)}')
  for name, kind in types.items():
    value = record[name]
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
      raise TypeError(f'{name} is {value!r}, not of type {kind.__name__}')
  games_lib.check_game(record['game'])
  return Rollout(**record)


def make_player(config: Mapping[str, Any]) -> Callable[[Any], dict[str, float]]:
  """Returns what plays during training: variables -> mean scores.

  They are named 'play/' and the game; 'play/human_normalized' is the mean of
  the normalised scores, of games that have references.

  Args:
    config: of training; its method plays greedily, the games of its data.

  Raises:
    ValueError: a game or a number is none.
  """
  run = config['run']
  games = games_lib.parse_games(config['data']['games'])
  protocol = Protocol(
    rollouts=run['play_episodes'], max_frames=run['play_max_frames']
  )
  policy = make_method(config).policy(epsilon=protocol.epsilon)

  def play(variables: Any) -> dict[str, float]:
    rollouts = evaluate(
      policy,
      variables,
      games,
      protocol,
      run['seed'],
      agent=config['method'],
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
      if item[0] in games_lib.REFERENCE_SCORES
    ]
    if human:
      values['play/human_normalized'] = float(np.mean(human))
    return values

  return play
