#!/usr/bin/env bash
# Cloud TPU VMs: the same command on every host of a slice. Run with
#   TPU=name ZONE=zone launch/pod/tpu_vm.sh
# Hosts are found by the metadata server, which --distributed=always asks. The
# loop runs the command again while it exits with 75 (asked to stop, or a host
# was lost).
set -euo pipefail

gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command='
  cd jowa_jax
  code=75
  while [[ $code -eq 75 ]]; do
    code=0
    .venv/bin/python -m launch.train --config=configs/jowa.py:150m \
      --distributed=always --workdir=/mnt/shared/runs/jowa_150m \
      --config.data.directory=/mnt/shared/data \
      --config.mesh.axes.fsdp=4 || code=$?
  done
  exit $code'
