#!/usr/bin/env bash
# Slurm: one process per GPU, as JAX expects it there. Submit with
#   sbatch launch/pod/slurm.sh
# srun starts the processes, and JAX finds the others by Slurm's environment.
#SBATCH --job-name=jowa
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
# SIGTERM to every process two minutes before the time is up.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

srun .venv/bin/python -m launch.train --config=configs/jowa.py:150m \
  --workdir="$SCRATCH/runs/jowa_150m" --config.data.directory="$SCRATCH/data" \
  --config.mesh.axes.data=4 --config.mesh.axes.fsdp=8
code=$?

# 75 says: run me again. 134 and 137 are of processes that JAX's runtime or the
# machine ended. The same job goes on from the last checkpoint, 20 times at most.
case "$code" in
  75 | 134 | 137)
    if [[ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]]; then
      scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$code"
