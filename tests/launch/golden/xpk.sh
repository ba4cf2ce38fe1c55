#!/bin/bash
xpk workload create \
  --workload llama-8b \
  --cluster a-cluster \
  --project a-project \
  --zone us-west4-a \
  --tpu-type v5litepod-16 \
  --docker-image us-docker.pkg.dev/a-project/images/gapjax:1 \
  --max-restarts 10 \
  --restart-on-exit-codes 75 \
  --termination-grace-period-seconds 300 \
  --command 'echo dGhlOiByZWNpcGUK | base64 -d > /tmp/llama_8b.yaml && exec gapjax train /tmp/llama_8b.yaml --out gs://a-bucket/runs/first --resume --expect-processes 4 --expect-devices 16'
