#!/bin/bash
# The cells as a job array of eight tasks, in a directory that all nodes share; see docs/ci.md.
#   sbatch slurm-shards.sh bench --samples 0
# A task that is requeued replaces its own result. When all are done, in the same directory:
#   qcow2-bench merge shard-*.json --out result.json
#SBATCH --job-name=qcow2-bench
#SBATCH --array=1-8
#SBATCH --requeue
#SBATCH --output=shard-%a.log
set -euo pipefail
shard=$SLURM_ARRAY_TASK_ID
exec ${QCOW2_BENCH:-npx qcow2-bench} "$@" --shard "$shard/$SLURM_ARRAY_TASK_MAX" \
  --out "shard-$shard.json" --overwrite
