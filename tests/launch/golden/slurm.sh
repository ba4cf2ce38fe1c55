#!/bin/bash
#SBATCH --job-name=llama-8b
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --output=llama-8b-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@300
# Submit where gapjax can be called: sbatch --partition=… --time=… THIS_FILE
set -euo pipefail

folder="$SLURM_SUBMIT_DIR/llama-8b-$SLURM_JOB_ID"
recipe="$folder"/llama_8b.yaml
mkdir -p "$folder"
cat > "$recipe" <<'END_OF_RECIPE'
the: recipe
END_OF_RECIPE

# The notice of a preemption or of the time limit is for gapjax, which saves and ends.
trap : TERM
status=0
srun gapjax train "$recipe" --out 'runs/an answer'"'"'s run' --resume --expect-processes 8 --expect-devices 8 || status=$?

# A job that was cancelled ends in the same way, and stays cancelled.
if ((status == 75)) &&
  [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
