"""One run in many processes, by JAX's own runtime."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping

from absl import flags, logging

_DISTRIBUTED = flags.DEFINE_enum(
  'distributed',
  'auto',
  ['auto', 'always', 'never'],
  'Whether this is one of several processes; auto asks the environment.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'host:port of process 0, if it must be told.'
)
_COUNT = flags.DEFINE_integer(
  'num_processes', None, 'Of the run, on all hosts together.'
)
_INDEX = flags.DEFINE_integer(
  'process_id', None, 'Place of this process, from 0.'
)

# Seconds without a sign of life after which a process is given up.
_HEARTBEAT = 30


def is_one_of_several(environment: Mapping[str, str]) -> bool:
  """Whether a cluster that JAX knows started several processes.

  Not seen: a Cloud TPU VM, which tells by its metadata server alone; there,
  say --distributed=always.

  Args:
    environment: such as `os.environ`.
  """

  def number(name: str) -> int:
    value = environment.get(name, '')
    return int(value) if value.isdigit() else 0

  return (
    # Slurm, by srun; within an interactive allocation there is no step.
    ('SLURM_STEP_NODELIST' in environment and number('SLURM_NTASKS') > 1)
    # Open MPI, by mpirun.
    or (
      'OMPI_MCA_orte_hnp_uri' in environment
      and number('OMPI_COMM_WORLD_SIZE') > 1
    )
    # TPU slices of GKE.
    or ',' in environment.get('TPU_WORKER_HOSTNAMES', '')
    or number('MEGASCALE_NUM_SLICES') > 1
    # Indexed jobs of Kubernetes; JAX asks its server for the rest.
    or (
      'KUBERNETES_SERVICE_HOST' in environment
      and 'JOB_COMPLETION_INDEX' in environment
      and importlib.util.find_spec('kubernetes') is not None
    )
    or 'JAX_COORDINATOR_ADDRESS' in environment
  )


def _told_by(environment: Mapping[str, str]) -> str:
  """What says that there are several processes, for people."""
  if _COUNT.value is not None:
    return f'--num_processes={_COUNT.value}'
  if _DISTRIBUTED.value == 'always':
    return '--distributed=always'
  names = (
    *('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'),
    *('MEGASCALE_NUM_SLICES', 'JOB_COMPLETION_INDEX'),
    'JAX_COORDINATOR_ADDRESS',
  )
  return ', '.join(
    f'{name}={environment[name]}' for name in names if name in environment
  )


@contextlib.contextmanager
def processes() -> Iterator[None]:
  """Joins the other processes of the run, if there are any, for a while.

  Raises:
    ValueError: flags that go together are not given together.
  """
  told = [_COORDINATOR.value, _COUNT.value, _INDEX.value]
  given = [value is not None for value in told]
  if any(given) and not all(given):
    raise ValueError(
      '--coordinator_address, --num_processes and --process_id go together'
    )
  if _DISTRIBUTED.value == 'never' and any(given):
    raise ValueError('--distributed=never, but a coordinator is given')
  join = any(given) or _DISTRIBUTED.value == 'always'
  if _DISTRIBUTED.value == 'auto':
    join = join or is_one_of_several(os.environ)
  if join:
    import jax

    from jowa_jax.train.preemption import EXIT_CODE, lost_another

    # The wait is minutes long where the others were never started.
    logging.info(
      'Waiting for the other processes of the run (%s); if there are none, say '
      '--distributed=never',
      _told_by(os.environ),
    )
    # What CPUs talk by; others ignore it.
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    try:
      jax.distributed.initialize(*told, heartbeat_timeout_seconds=_HEARTBEAT)
    except (RuntimeError, ValueError) as error:
      if lost_another(error):
        logging.error('The others did not come: %s', error)
        sys.exit(EXIT_CODE)
      raise ValueError(
        f'The processes of the run did not find each other ({error}); give '
        '--coordinator_address, --num_processes and --process_id, or '
        '--distributed=never for a run of one process'
      ) from error
    logging.info(
      'Process %d of %d, %d of %d devices',
      jax.process_index(),
      jax.process_count(),
      jax.local_device_count(),
      jax.device_count(),
    )
  yield
