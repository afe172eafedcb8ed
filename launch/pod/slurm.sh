#!/usr/bin/env bash
# Slurm: one process per node, all of its GPUs. Submit with
#   sbatch launch/pod/slurm.sh
# srun starts the processes, and JAX finds the others by Slurm's environment.
#SBATCH --job-name=jowa
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
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

# 75 says: the state is saved, run me again. The same job goes on from it.
if [[ "$code" -eq 75 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
