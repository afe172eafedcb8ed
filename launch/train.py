"""Trains a method: stages, checkpoints and logs in one directory.

python -m launch.train --config=configs/jowa.py:150m --workdir=runs/jowa \
  --config.data.directory=data [--config.run.batch_size=256 ...]

Running the same command again continues from the latest checkpoint. SIGTERM
saves and exits with code 75, which says: run me again.

Many processes of one run are found by themselves on Cloud TPU, under Slurm,
Open MPI and Kubernetes (see launch/pod); elsewhere, start each with
--coordinator_address, --num_processes and --process_id.
"""

from collections.abc import Mapping
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from jowa_jax.train.loop import Player
from jowa_jax.train.run import Run
from launch import common, distributed

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Training config, such as configs/jowa.py:40m.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')
_ACCEPT = flags.DEFINE_bool(
  'accept_changes', False, 'Go on with another config or other data.'
)
_PROFILE = flags.DEFINE_string(
  'profile_steps', None, 'first:last, traced into profile/ of the directory.'
)
_CACHE = flags.DEFINE_string(
  'compilation_cache', None, 'Where compiled programs are kept between runs.'
)
_WANDB = flags.DEFINE_string(
  'wandb_project', '', 'Of Weights & Biases, for metrics (pip install wandb).'
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  if _CACHE.value:
    jax.config.update('jax_compilation_cache_dir', _CACHE.value)
  with distributed.processes():
    config = _CONFIG.value.to_dict()
    run = Run(config, _WORKDIR.value)
    run.train(
      _PROGRESS.value,
      accept_changes=_ACCEPT.value,
      play=_player(config),
      profile_steps=_profile_steps(),
      wandb_project=_WANDB.value,
    )


def _player(config: Mapping[str, Any]) -> Player | None:
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


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  common.run(main)
