"""The flags of scripts that train, and what they make of a config."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import flags

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


def train(run: Run) -> None:
  """Trains to the end, see `Run.train`."""
  run.train(
    _PROGRESS.value,
    accept_changes=_ACCEPT.value,
    play=_player(run.config),
    profile_steps=_profile_steps(),
    wandb_project=_WANDB.value,
  )


def _player(config: Mapping[str, Any]) -> PlayFn | None:
  if not config['run']['play_every']:
    return None
  from jowa_jax.eval.rollout import make_player

  return make_player(config)


def _profile_steps() -> tuple[int, int] | None:
  if _PROFILE.value is None:
    return None
  first, _, last = _PROFILE.value.partition(':')
  if not (first.isdigit() and last.isdigit()):
    raise ValueError(f'--profile_steps={_PROFILE.value} is not first:last')
  return int(first), int(last)
