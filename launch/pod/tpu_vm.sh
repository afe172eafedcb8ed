#!/usr/bin/env bash
# Cloud TPU VMs: the same command on every host of a slice. Run with
#   TPU=name ZONE=zone launch/pod/tpu_vm.sh
# Hosts are found by the metadata server, which --distributed=always asks. The
# loop runs the command again, 20 times at most, while it exits with 75 (asked to
# stop, or a host was lost) or was ended from outside (134, 137).
set -euo pipefail

gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command='
  cd jowa_jax
  for attempt in {1..20}; do
    code=0
    .venv/bin/python -m launch.train --config=configs/jowa.py:150m \
      --distributed=always --workdir=/mnt/shared/runs/jowa_150m \
      --config.data.directory=/mnt/shared/data \
      --config.mesh.axes.fsdp=4 || code=$?
    [[ $code =~ ^(75|134|137)$ ]] || break
  done
  exit $code'
