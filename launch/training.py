"""The flags of scripts that train, and what they make of a config."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import flags

from jowa_jax import games as games_lib
from jowa_jax.data.feed.feed import Feed
from jowa_jax.train.loop import PlayFn
from jowa_jax.train.run import Run
from launch import common, distributed

_WORKDIR = common.define_path('workdir', None, 'Where the run is kept.')
_ACCEPT = flags.DEFINE_bool(
  'accept_changes', False, 'Go on with another config or other data.'
)
_PROFILE = flags.DEFINE_string(
  'profile_steps', None, 'first:last, traced into profile/ of the directory.'
)
_CACHE = common.define_path(
  'compilation_cache', None, 'Where compiled programs are kept between runs.'
)
_WANDB = flags.DEFINE_string(
  'wandb_project', '', 'Of Weights & Biases, for metrics (pip install wandb).'
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


@contextlib.contextmanager
def session() -> Iterator[None]:
  """Joins the run's other processes, if any; nothing touches JAX before."""
  if _CACHE.value:
    jax.config.update('jax_compilation_cache_dir', _CACHE.value)
  with distributed.processes():
    yield


def make_run(config: Mapping[str, Any]) -> Run:
  """The run of a config in --workdir; touches nothing on disk.

  Raises:
    ConfigError: see `Run`.
  """
  return Run(config, _WORKDIR.value)


def train(
  run: Run, data: Feed | None = None, games: Sequence[str] = ()
) -> None:
  """Trains to the end, see `Run.train`.

  Args:
    run: what is trained.
    data: what is learned from; the run's own if None.
    games: what is played where `run.play_every` asks for it; those of the data
      if empty.
  """
  run.train(
    _PROGRESS.value,
    data=data,
    accept_changes=_ACCEPT.value,
    play=_player(run.config, games),
    profile_steps=_profile_steps(),
    wandb_project=_WANDB.value,
  )


def to_evaluate(
  run: Run, games: Sequence[str] | None = None, step: int | None = None
) -> str:
  """The command that plays whole episodes with a run.

  Args:
    run: that is trained.
    games: to be played; those that it was trained on if None.
    step: of the checkpoint; the latest if None.
  """
  if games is None:
    games = games_lib.parse_games(run.config['data']['games'])
  output = run.workdir.parent / 'eval' / f'{run.workdir.name}.jsonl'
  words = [f'python -m launch.evaluate --checkpoint={run.workdir}']
  words += [f'--step={step}'] if step is not None else []
  return ' '.join([*words, f'--games={",".join(games)}', f'--output={output}'])


def _player(config: Mapping[str, Any], games: Sequence[str]) -> PlayFn | None:
  if not config['run']['play_every']:
    return None
  from jowa_jax.eval.rollout import make_player

  return make_player(config, games)


def _profile_steps() -> tuple[int, int] | None:
  if _PROFILE.value is None:
    return None
  first, _, last = _PROFILE.value.partition(':')
  if not (first.isdigit() and last.isdigit()):
    raise ValueError(f'--profile_steps={_PROFILE.value} is not first:last')
  return int(first), int(last)
