"""How fast a run is, and how much of what its devices could do it uses.

Model FLOPs utilisation (arXiv:2204.02311, appendix B) is

    tokens a second x operations a token / (devices x peak operations a second of one)

with the operations that the model needs, whatever the program does: 2 for each parameter of a
matrix product, and as many for each backward pass, which is one to adapters and two to all
weights. Neither attention's own products nor what is computed again counts. The peak is the
published one in bfloat16; where none is known there is no utilisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from gapjax.models.config import DecoderConfig
from gapjax.parallel.footprint import Parameters
from gapjax.parallel.hardware import peak_flops
from gapjax.selfimprove.recipe import Recipe

_ASK_THE_MODEL = ("true_false", "quality")


class Speed:
    """Tokens and operations a second, by kind of work, of the rows of `metrics.jsonl`."""

    def __init__(self, config: DecoderConfig, recipe: Recipe) -> None:
        count = Parameters.of(config)
        self._parameters = count.layer * config.num_layers + count.head
        self._passes = 2 if recipe.adapter.rank else 3
        # What sampling needs is known; what a verifier reads of an answer, only if it is ours.
        self._forward = {"sample"}
        if recipe.verifier.method in _ASK_THE_MODEL:
            self._forward.add("verify")
        peak = peak_flops(jax.devices()[0].device_kind)
        self._peak = None if peak is None else peak * jax.device_count()

    def __call__(self, kind: str, row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """By kind of work `tokens_per_second`, `flops_per_second`, `utilisation` if that is known.

        Sampling and verifying count the tokens of answers and not of prompts.

        **Arguments:**

        - `kind`: of the row: `train`, `measure` or `select`; others have no speed.
        """
        tokens, seconds = row.get("tokens"), row.get("seconds")
        if not tokens or not seconds:
            return {}
        if kind == "train":
            return {"train": self._of(tokens, seconds, passes=self._passes)}
        return {
            work: self._of(tokens, seconds[work], passes=1)
            for work in sorted(self._forward & set(seconds))
            if seconds[work] > 0
        }

    def _of(self, tokens: float, seconds: float, *, passes: int) -> dict[str, float]:
        rate = tokens / seconds
        flops = rate * 2 * self._parameters * passes
        found = {"tokens_per_second": rate, "flops_per_second": flops}
        return found if self._peak is None else {**found, "utilisation": flops / self._peak}
