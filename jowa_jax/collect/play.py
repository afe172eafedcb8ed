"""Plays one checkpoint of one game and keeps it in one file."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jowa_jax import files, games
from jowa_jax.collect import policies
from jowa_jax.collect.networks import NetworkFile
from jowa_jax.data.episodes import RawEpisode, encode_png
from jowa_jax.envs import ale


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What is played: everything that decides the outcome, and nothing else."""

  game: str  # or a variant, see `games.parse_variant`
  run: int
  checkpoint: int
  epsilon: float
  steps: int  # decisions
  seed: int
  sticky: float
  search: policies.LookaheadConfig
  # Decisions after which an episode is cut off; 0 leaves that to the emulator.
  max_episode_steps: int = 0
  # What plays instead of the search.
  network: NetworkFile | None = None

  @property
  def checkpoint_name(self) -> str:
    return f'checkpoint_{self.checkpoint:02d}'

  @property
  def cost(self) -> float:
    """Expected emulator steps."""
    if self.network:
      return self.steps
    return self.steps * policies.relative_cost(
      self.game, self.epsilon, self.search
    )

  def settings(self) -> dict[str, Any]:
    """All of it, as JSON gives it back."""
    settings = json.loads(json.dumps(dataclasses.asdict(self)))
    # As recordings and data sets have it that are older than the setting.
    if not self.max_episode_steps:
      del settings['max_episode_steps']
    if self.network:
      # Where its file lay decides nothing.
      settings['network'] = self.network.settings()
      del settings['search']
    else:
      del settings['network']
    return settings

  def play(self, report: Callable[[int], None]) -> 'Played':
    return play(self, report)


class Played(NamedTuple):
  """A played checkpoint."""

  episodes: list[RawEpisode]
  seconds: float


def emulator_seed(spec: Checkpoint) -> int:
  """What seeds the emulator that plays a checkpoint's episodes."""
  seeds = np.random.SeedSequence(_seeds(spec))
  return int(seeds.generate_state(1)[0] % 2**31)


def _seeds(spec: Checkpoint) -> tuple[int, int, int, int]:
  game = games.parse_variant(spec.game).game
  return spec.seed, spec.run, games.task_id(game), spec.checkpoint


def play_episode(
  env: ale.AleEnv,
  policy: policies.Teacher,
  limit: int,
  report: Callable[[int], None] = lambda done: None,
) -> RawEpisode:
  """Plays one episode, and cuts it off after `limit` decisions.

  `report` is told after every decision how many are done.
  """
  legal = games.LEGAL_ACTIONS[games.parse_variant(env.game).game]
  frame = env.reset()
  frames, actions, rewards = [], [], []
  ended = terminated = False
  while not ended and len(actions) < limit:
    frames.append(encode_png(frame))
    actions.append(policy(env, not actions))
    outcome = env.step(legal[actions[-1]])
    rewards.append(outcome.reward)
    frame, terminated = outcome.frame, outcome.terminated
    ended = terminated or outcome.truncated
    report(len(actions))
  if terminated:
    frames.append(encode_png(frame))
  return RawEpisode(
    frames,
    np.array(actions, np.int32),
    np.array(rewards, np.float32),
    terminated,
  )


def _play_episodes(
  spec: Checkpoint, report: Callable[[int], None]
) -> Iterator[RawEpisode]:
  """Yields episodes of `spec.steps` decisions in all, the last one cut off.

  So are those that reach `spec.max_episode_steps`, if that is not 0.
  """
  env = ale.AleEnv(spec.game, emulator_seed(spec), spec.sticky)
  policy = policies.make_policy(
    *(spec.game, spec.epsilon, _seeds(spec), spec.search, spec.sticky),
    spec.network and spec.network.read(),
  )
  longest = spec.max_episode_steps or spec.steps
  done = 0
  while done < spec.steps:
    before = done
    episode = play_episode(
      env,
      policy,
      min(longest, spec.steps - done),
      lambda t, before=before: report(before + t),
    )
    done += len(episode.actions)
    yield episode


def play(
  spec: Checkpoint, report: Callable[[int], None] = lambda done: None
) -> Played:
  """Plays a checkpoint's decisions; `report` is told how many are done."""
  start = time.monotonic()
  episodes = list(_play_episodes(spec, report))
  return Played(episodes, time.monotonic() - start)


def save(path: pathlib.Path, played: Played) -> None:
  """Writes a played checkpoint to a file that is there whole or not at all."""
  episodes = played.episodes
  frames = [frame for episode in episodes for frame in episode.frames]
  with files.written_whole(path) as temporary:
    np.savez(
      temporary,
      frames=np.frombuffer(b''.join(frames), np.uint8),
      frame_sizes=np.array([len(frame) for frame in frames]),
      actions=np.concatenate([episode.actions for episode in episodes]),
      rewards=np.concatenate([episode.rewards for episode in episodes]),
      lengths=np.array([len(episode.actions) for episode in episodes]),
      terminated=np.array([episode.terminated for episode in episodes]),
      seconds=played.seconds,
    )


def load(path: pathlib.Path) -> Played:
  """Reads what `save` wrote."""
  with np.load(path) as stored:
    arrays = dict(stored)
  blob = arrays['frames'].tobytes()
  stops = np.cumsum(arrays['frame_sizes'])
  pngs = [
    blob[stop - size : stop]
    for stop, size in zip(stops, arrays['frame_sizes'], strict=True)
  ]
  episodes = []
  step = frame = 0
  for length, terminated in zip(
    arrays['lengths'], arrays['terminated'], strict=True
  ):
    num_frames = length + terminated
    episodes.append(
      RawEpisode(
        pngs[frame : frame + num_frames],
        arrays['actions'][step : step + length],
        arrays['rewards'][step : step + length],
        bool(terminated),
      )
    )
    step += length
    frame += num_frames
  return Played(episodes, float(arrays['seconds']))
