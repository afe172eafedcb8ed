"""Which environments are those of one of several processes."""

import pytest

from launch.distributed import is_one_of_several

SLURM = {
  'SLURM_JOB_ID': '7',
  'SLURM_STEP_NODELIST': 'node[1-2]',
  'SLURM_NTASKS': '2',
  'SLURM_PROCID': '1',
  'SLURM_LOCALID': '0',
}
MPI = {
  'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1:34911',
  'OMPI_COMM_WORLD_SIZE': '4',
}


@pytest.mark.parametrize(
  'environment',
  [
    SLURM,
    MPI,
    {'TPU_WORKER_HOSTNAMES': 'host-0,host-1'},
    {'MEGASCALE_NUM_SLICES': '2'},
    {'JAX_COORDINATOR_ADDRESS': 'host:1234'},
  ],
)
def test_several(environment):
  assert is_one_of_several(environment)


@pytest.mark.parametrize(
  'environment',
  [
    {},
    {**SLURM, 'SLURM_NTASKS': '1'},
    # An allocation without srun.
    {k: v for k, v in SLURM.items() if k != 'SLURM_STEP_NODELIST'},
    {**MPI, 'OMPI_COMM_WORLD_SIZE': '1'},
    {'TPU_WORKER_HOSTNAMES': 'localhost'},
    {'KUBERNETES_SERVICE_HOST': '10.0.0.1'},
  ],
)
def test_one(environment):
  assert not is_one_of_several(environment)
