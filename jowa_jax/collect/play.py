"""Plays one checkpoint of one game and keeps it in one file."""

import dataclasses
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jowa_jax import files, games
from jowa_jax.collect import ale_env, policies
from jowa_jax.data.episodes import RawEpisode, encode_png


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What is played: everything that decides the outcome, and nothing else."""

  game: str
  run: int
  checkpoint: int
  epsilon: float
  steps: int  # decisions
  seed: int
  sticky: float
  search: policies.Search

  @property
  def split(self) -> str:
    return f'checkpoint_{self.checkpoint:02d}'

  @property
  def cost(self) -> float:
    """Expected emulator steps."""
    return self.steps * policies.relative_cost(
      self.game, self.epsilon, self.search
    )

  def file_name(self) -> str:
    """Returns a name that other settings do not share."""
    settings = json.dumps(dataclasses.asdict(self), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    return f'{self.split}-{digest}.npz'


class Played(NamedTuple):
  """A played checkpoint."""

  episodes: list[RawEpisode]
  seconds: float


def _play_episodes(
  spec: Checkpoint, report: Callable[[int], None]
) -> Iterator[RawEpisode]:
  """Yields episodes of `spec.steps` decisions in all, the last one cut off."""
  seeds = (spec.seed, spec.run, games.task_id(spec.game), spec.checkpoint)
  env_seed = np.random.SeedSequence(seeds).generate_state(1)[0] % 2**31
  env = ale_env.AleEnv(spec.game, int(env_seed), spec.sticky)
  policy = policies.make_policy(
    spec.game, spec.epsilon, seeds, spec.search, spec.sticky
  )
  legal = games.LEGAL_ACTIONS[spec.game]
  done = 0
  while done < spec.steps:
    frame = env.reset()
    frames, actions, rewards = [], [], []
    ended = terminated = False
    while not ended and done < spec.steps:
      frames.append(encode_png(frame))
      actions.append(policy(env, not actions))
      outcome = env.step(legal[actions[-1]])
      rewards.append(outcome.reward)
      frame, terminated = outcome.frame, outcome.terminated
      ended = terminated or outcome.truncated
      done += 1
      report(done)
    if terminated:
      frames.append(encode_png(frame))
    yield RawEpisode(
      frames,
      np.array(actions, np.int32),
      np.array(rewards, np.float32),
      terminated,
    )


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
