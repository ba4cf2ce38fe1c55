"""How far the log-probabilities of sampled tokens are from those of teacher-forced rescoring.

Both are the same function of the same tokens, computed in another order: a token at a time with a
cache, and all at once. What differs is rounding, so it depends on the type.

    python -m benchmarks.rescoring > benchmarks/results/rescoring.md
"""

from __future__ import annotations

import itertools

import jax
import numpy as np

from benchmarks.timing import MACHINE
from gapjax import models
from gapjax.generation import sample, score
from gapjax.models.load import DTYPES
from gapjax.models.prompts import encode_prompt

PROMPTS = {
    "adder": [f"{a}+{b}=" for a in (7, 12, 34, 99) for b in (1, 5, 45, 90, 68)],
    "smollm2": [
        "What is 12 + 34?",
        "Name three colours of the rainbow.",
        "Write a short poem about the sea.",
        "Explain why the sky is blue in two sentences.",
    ],
}
SAMPLES, LONGEST = 8, 48


def differences(name: str, dtype: str) -> list[np.ndarray]:
    """Of each answer the differences (nats), token by token."""
    loaded = models.load(name, dtype=dtype)
    assert loaded.tokenizer is not None
    prompts = [encode_prompt(loaded.tokenizer, prompt) for prompt in PROMPTS[name]]
    samples = sample(
        loaded.model,
        prompts,
        key=jax.random.key(0),
        n=SAMPLES,
        max_new_tokens=LONGEST,
        stop=loaded.ends.tokens,
    )
    scored = score(loaded.model, prompts, samples.answers())
    return [
        row - samples.logprobs[p, n, : len(row)]
        for p, rows in enumerate(scored)
        for n, row in enumerate(rows)
    ]


def main() -> None:
    """Print the table."""
    print("# Sampling against rescoring\n")
    print(f"On {MACHINE}. Absolute differences in nats between the log-probabilities that")
    print(
        "`generation.sample` and `generation.score` give to the sampled tokens, at temperature 1."
    )
    print("Written by `python -m benchmarks.rescoring`.\n")
    print("| model | dtype | tokens | a token: mean | 99% | max | an answer's sum: mean | max |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, dtype in itertools.product(PROMPTS, DTYPES):
        answers = differences(name, dtype)
        tokens = np.abs(np.concatenate(answers))
        sums = np.abs([answer.sum() for answer in answers])
        numbers = tokens.mean(), np.quantile(tokens, 0.99), tokens.max(), sums.mean(), sums.max()
        shown = " | ".join(
            f"{number:.1g}" if number < 1e-3 else f"{number:.2g}" for number in numbers
        )
        print(f"| {name} | {dtype} | {tokens.size} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
