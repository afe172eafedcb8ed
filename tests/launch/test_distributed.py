"""Which environments are those of one of several processes."""

import os
import subprocess
import sys

import pytest

from launch.common import ROOT, spare_local_connections
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


def test_one_who_waits_says_for_what(tmp_path):
  """Such as a step of Slurm of four tasks, in which one is started by hand."""
  slurm = {
    **SLURM,
    'SLURM_NTASKS': '4',
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_PROCID': '0',
  }
  with subprocess.Popen(
    [sys.executable, '-m', 'launch.train', f'--workdir={tmp_path / "run"}']
    + [f'--config={ROOT / "configs/jowa.py"}:smoke'],
    cwd=ROOT,
    env={**os.environ, **slurm},
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    told = next(line for line in process.stderr if 'Waiting' in line)
    process.kill()
  assert 'SLURM_NTASKS=4' in told and '--distributed=never' in told


def test_connections_within_the_machine_take_no_proxy():
  environment = {'http_proxy': 'http://proxy:3128', 'no_proxy': 'example.org'}
  for _ in range(2):  # what is there is not added again
    spare_local_connections(environment)
  assert environment['http_proxy'] == 'http://proxy:3128'
  hosts = environment['no_proxy'].split(',')
  assert hosts[:3] == ['example.org', 'localhost', '127.0.0.1']
  assert len(set(hosts)) == len(hosts)
  assert environment['NO_PROXY'].split(',')[0] == 'localhost'
