"""Everything in one go: real play, data set, training, evaluation, report.

Each phase leaves files behind and is skipped, or continued, when they are
there, so that a run that was interrupted goes on where it was.
"""

import contextlib
import json
import pathlib
import platform
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np

from jowa_jax.agent import Agent, load
from jowa_jax.collect.collect import collect_from_config
from jowa_jax.configuration import ConfigError, differences
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.data.training import TrainingData
from jowa_jax.eval import world_model
from jowa_jax.eval.protocol import Protocol
from jowa_jax.eval.rollout import (
  Rollout,
  evaluate,
  random_policy,
  write_rollouts,
)
from jowa_jax.report import write_report
from jowa_jax.train.run import Run

PACKAGES = (
  'jax flax optax orbax-checkpoint chex numpy tensorflow-datasets ale-py'
).split()


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}.tmp')
  temporary.write_text(json.dumps(value, indent=2))
  temporary.replace(path)


def _write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  temporary = path.with_name(f'{path.stem}.tmp.npz')
  np.savez_compressed(temporary, **arrays)
  temporary.replace(path)


class _Clock:
  """Adds up the seconds of each phase, over restarts."""

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._seconds = json.loads(path.read_text()) if path.exists() else {}

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    print(f'\n{name}', flush=True)
    begin = time.monotonic()
    try:
      yield
    finally:
      spent = time.monotonic() - begin
      self._seconds[name] = self._seconds.get(name, 0.0) + spent
      _write_json(self._path, self._seconds)


def training_configs(
  config: Mapping[str, Any], workdir: pathlib.Path
) -> dict[str, dict[str, Any]]:
  """Returns the configs of the two trainings, with paths and seed filled in."""
  configs = {name: json.loads(json.dumps(config[name])) for name in _METHODS}
  for training in configs.values():
    training['data']['directory'] = str(workdir / 'data')
    training['data']['token_cache'] = str(workdir / 'tokens')
    training['run']['seed'] = config['seed']
  # MTBC reads what JOWA's tokenizer sees.
  configs['mtbc']['init_from']['checkpoints'] = str(
    workdir / 'jowa' / 'checkpoints'
  )
  return configs


_METHODS = ('jowa', 'mtbc')


def quickstart(
  config: Mapping[str, Any], workdir: str | pathlib.Path, progress: bool = True
) -> pathlib.Path:
  """Runs all phases that are not done yet.

  Args:
    config: of `configs/quickstart.py`.
    workdir: where everything goes.
    progress: show progress bars.

  Returns:
    The path of the report.

  Raises:
    ConfigError: the directory was begun with another config, or a field does
      not fit.
  """
  workdir = pathlib.Path(workdir).resolve()
  config = json.loads(json.dumps(config))
  runs = {
    name: Run(training, workdir / name)
    for name, training in training_configs(config, workdir).items()
  }
  _claim(workdir / 'config.json', config)
  clock = _Clock(workdir / 'timings.json')
  with clock.phase('Play the games for data'):
    playing = {**config['collect'], 'seed': config['seed']}
    for split in collect_from_config(playing, workdir / 'data', progress):
      print(split)
  with clock.phase('Train JOWA'):
    runs['jowa'].train(progress)
  with clock.phase('Train MTBC'):
    runs['mtbc'].train(progress)
  _evaluate_all(config, workdir, runs['jowa'].load_data(), clock, progress)
  _write_json(workdir / 'versions.json', _versions())
  return write_report(workdir)


def _claim(path: pathlib.Path, config: dict[str, Any]) -> None:
  if not path.exists():
    return _write_json(path, config)
  changed = differences(json.loads(path.read_text()), config)
  if changed:
    lines = '\n  '.join(changed)
    raise ConfigError(
      f'{path.parent} was begun with another config; give another directory '
      f'or restore these fields:\n  {lines}'
    )


def _evaluate_all(config, workdir, data: TrainingData, clock, progress):
  folder = workdir / 'eval'
  folder.mkdir(exist_ok=True)
  agents = {name: load(workdir / name) for name in _METHODS}
  with clock.phase('Look at what the model sees and dreams'):
    _judge_model(agents, data, folder)
  games = list(episodes_lib.by_game(data.episodes))
  protocol = Protocol(**config['evaluate']['protocol'])
  write_rollouts(folder / 'data.jsonl', data_rollouts(data.episodes))
  for name, player in config['evaluate']['agents'].items():
    path = folder / f'{name}.jsonl'
    if path.exists():
      continue
    if player['method'] == 'random':
      policy, variables = random_policy(), None
    else:
      agent = agents[player['method']]
      policy = agent.policy(epsilon=protocol.epsilon, **player['options'])
      variables = agent.variables
    with clock.phase(f'Evaluate {player["title"]}'):
      rollouts = evaluate(
        policy,
        variables,
        games,
        protocol,
        config['seed'],
        agent=name,
        progress=progress,
      )
      write_rollouts(path, rollouts)


def _judge_model(
  agents: Mapping[str, Agent], data: TrainingData, folder: pathlib.Path
) -> None:
  """Writes the quality of the tokenizer and of the dreams, and pictures."""
  held_out = data.held_out.episodes
  seen = world_model.reconstruct(agents['jowa'], held_out)
  dreamed = world_model.dream(agents['jowa'], held_out)
  _write_arrays(
    folder / 'reconstructions.npz',
    {
      f'{game}/{name}': array
      for game, (_, pictures) in seen.items()
      for name, array in pictures._asdict().items()
    },
  )
  _write_arrays(
    folder / 'dreams.npz',
    {
      f'{game}/{name}': array
      for game, (_, pictures) in dreamed.items()
      for name, array in pictures._asdict().items()
    },
  )
  majority = world_model.majority_accuracy(data.train.episodes, held_out)
  cloned = world_model.policy_accuracy(agents['mtbc'], held_out)
  quality = {
    game: {
      **seen[game][0],
      **dreamed[game][0],
      'policy_accuracy': cloned[game],
      'majority_accuracy': majority[game],
    }
    for game in seen
  }
  _write_json(folder / 'model_quality.json', quality)


def data_rollouts(
  episodes: list[episodes_lib.Episode],
) -> list[Rollout]:
  """Returns the complete episodes of a data set as rollouts of 'data'."""
  counts: dict[str, int] = {}
  rollouts = []
  for episode in episodes:
    if not episode.terminated:
      continue
    number = counts.get(episode.game, 0)
    counts[episode.game] = number + 1
    rollouts.append(
      Rollout(
        agent='data',
        game=episode.game,
        rollout=number,
        seed=episode.episode_id,
        score=episode.score,
        clipped_score=float(episode.rewards.sum()),
        decisions=len(episode),
        frames=4 * len(episode),
        seconds=0.0,
        terminated=True,
      )
    )
  return rollouts


def _versions() -> dict[str, str]:
  versions = {name: metadata.version(name) for name in PACKAGES}
  return {'python': platform.python_version(), **versions}
