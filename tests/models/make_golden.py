"""Compute with transformers the logits that are tested where torch is absent: `make golden`.

The weights are not stored, since `tests.models.tiny` makes the same ones anywhere.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.models.tiny import CONFIGS, GOLDEN, RandomTensors, golden_tokens, reference_logits

POSITIONS = (10, 25, 39)  # few enough for a small file


def main() -> None:
    from transformers import AutoModelForCausalLM

    tokens, mask = golden_tokens()
    golden = {}
    for name, raw in CONFIGS.items():
        source = RandomTensors(name)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(raw))
            tensors = {tensor: source.read(tensor) for tensor in source.shapes}
            save_file(tensors, Path(folder, "model.safetensors"), metadata={"format": "pt"})
            model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        if report["missing_keys"] or report["unexpected_keys"] or report["mismatched_keys"]:
            raise SystemExit(f"{name}: transformers does not know these weights: {report}")
        logits = reference_logits(model.eval(), tokens, mask)
        golden[name] = logits[:, POSITIONS, :]
        print(f"{name}: largest logit {np.abs(golden[name]).max():.1f}")
    np.savez_compressed(GOLDEN, positions=POSITIONS, **golden)


if __name__ == "__main__":
    main()
