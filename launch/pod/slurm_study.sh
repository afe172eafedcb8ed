#!/usr/bin/env bash
# Slurm: a study's cells, shared by the tasks of an array, one GPU each. Submit
#   sbatch --array=1-8 launch/pod/slurm_study.sh
# Cells that several tasks need are made by one, the others wait. The page is
# written anew by each task that ends, and is whole after the last.
#SBATCH --job-name=jowa-study
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

# exec: the signal must reach Python.
run() {
  exec .venv/bin/python -m launch.study --config=configs/study.py:paper \
    --output="$SCRATCH/studies/paper" --config.places.logs="$SCRATCH/dqn" \
    --noprogress --shard="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
}
run &
trap 'kill -TERM $!' TERM
wait $!
code=$?
# The trap ended the first wait; the second is for Python, which saves.
if [[ "$code" -gt 128 ]]; then
  wait $!
  code=$?
fi

# 75 says: run me again. Cells that failed (2) are for a person to look at.
if [[ "$code" -eq 75 && "${SLURM_RESTART_COUNT:-0}" -lt 20 ]]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
