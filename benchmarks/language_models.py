"""Scoring, sampling and a LoRA step on SmolLM2-135M, against transformers, PEFT and google-tunix.

    python -m benchmarks.language_models      # ten minutes; needs torch and peft
    taskset -c 0 python -m benchmarks.language_models      # on a machine that others use too

Float32 on the CPU, everybody on the same cores, contestants interleaved, results checked against
each other before anything is timed. The peers get the better of what their users write: only
the logits that are needed, no log-probabilities from `generate`. Tunix takes part if it is
installed (`benchmarks.tunix_sampler` says how).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.timing import MACHINE, interleaved, quartiles
from benchmarks.tunix_sampler import tunix_sampler
from gapjax import generation, models
from gapjax.generation import sampler
from gapjax.generation.batching import pad_left, pad_right
from gapjax.models.adapter import save_adapter
from gapjax.models.load import _smollm2
from gapjax.models.lora import attach
from gapjax.models.prompts import encode_prompt
from gapjax.selfimprove.recipe import TrainConfig
from gapjax.selfimprove.sft import Batch, Trainer

PROMPTS, SAMPLES, PROMPT_TOKENS, NEW_TOKENS = 4, 16, 48, 32
ROWS, ROW_TOKENS, RANK = 8, 64, 8  # of the LoRA step; half of the tokens are the answer
_MATRIX = 2048
_RESULT = Path(__file__).parent / "results/language_models.md"
_MANNER = "Please read this question with care and take your time before you answer it. "
_QUESTIONS = (
    "A train leaves at noon and takes five hours. When does it arrive? Answer in a few words.",
    "What is the largest city of Italy? Answer with its name only.",
    "Which colour do you get from blue and yellow paint? Answer in one word, then say why.",
    "Anna has three apples and buys four more. How many has she now? Answer with the number.",
)


class Timed(NamedTuple):
    """One row of a table."""

    name: str
    first: float  # seconds of the first call, compilation included
    seconds: np.ndarray
    work: float  # floating-point operations of the matrix products of one call

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


class Peers(NamedTuple):
    """The same model on both sides."""

    ours: models.LoadedModel
    theirs: Any
    prompts: list[list[int]]
    stop: list[int]

    @property
    def per_token(self) -> float:
        """Floating-point operations a token in the layers' matrix products."""
        blocks = jax.tree.leaves(nnx.state(self.ours.model.blocks))
        return 2.0 * sum(leaf.size for leaf in blocks if leaf.ndim == 2)

    @property
    def per_logits(self) -> float:
        """The same for the logits of one position."""
        return 2.0 * self.ours.model.output_table().size


def load() -> Peers:
    path = _smollm2()
    ours = models.load(path)
    assert ours.tokenizer is not None
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    prompts = [
        encode_prompt(ours.tokenizer, _MANNER + text)[-PROMPT_TOKENS:] for text in _QUESTIONS
    ]
    assert {len(prompt) for prompt in prompts} == {PROMPT_TOKENS}
    return Peers(ours, theirs, prompts, list(ours.ends.tokens))


def first_call(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def compare(
    contestants: dict[str, tuple[Callable[[], object], float]], repeats: int
) -> dict[str, Timed]:
    """Time contestants (each with the work of a call) after their first call."""
    jax.clear_caches()
    first = {name: first_call(call) for name, (call, _) in contestants.items()}
    print(*first, file=sys.stderr)
    seconds = interleaved(
        {name: call for name, (call, _) in contestants.items()}, repeats=repeats, slow=np.inf
    )
    return {
        name: Timed(name, first[name], seconds[name], work)
        for name, (_, work) in contestants.items()
    }


# --- what is timed -------------------------------------------------------------------------


def matmuls() -> dict[str, tuple[Callable[[], object], float]]:
    """The most that this machine does: the product of two large square matrices."""
    matrix = np.random.default_rng(0).normal(size=(_MATRIX, _MATRIX)).astype(np.float32)
    on_jax, on_torch = jnp.asarray(matrix), torch.tensor(matrix)
    product = jax.jit(lambda x: x @ x)
    return {
        "matmul, jax": (lambda: product(on_jax).block_until_ready(), 2.0 * _MATRIX**3),
        "matmul, torch": (lambda: on_torch @ on_torch, 2.0 * _MATRIX**3),
    }


def scoring(
    peers: Peers, answers: list[list[list[int]]]
) -> dict[str, tuple[Callable[[], object], float]]:
    rows = [(p, a) for p, group in zip(peers.prompts, answers, strict=True) for a in group]
    longest = max(len(answer) for _, answer in rows)
    tokens, mask = map(torch.tensor, pad_right([p + a for p, a in rows], PROMPT_TOKENS + longest))
    targets = tokens[:, PROMPT_TOKENS:, None].long()

    def theirs(keep: int) -> torch.Tensor:
        with torch.inference_mode():
            out = peers.theirs(tokens, attention_mask=mask, logits_to_keep=keep)
            logits = out.logits[:, -longest - 1 : -1]
            chosen = logits.gather(-1, targets) - logits.logsumexp(dim=-1, keepdim=True)
        return chosen[..., 0]

    def ours() -> list[list[np.ndarray]]:
        return generation.score(peers.ours.model, peers.prompts, answers)

    got, expected = itertools.chain(*ours()), theirs(longest + 1).numpy()
    for row, reference in zip(got, expected, strict=True):
        np.testing.assert_allclose(row, reference[: len(row)], atol=1e-3)
    positions = PROMPT_TOKENS + longest
    needed = sum(len(answer) for _, answer in rows)
    return {
        "gapjax": (
            ours,
            (len(peers.prompts) * PROMPT_TOKENS + needed) * peers.per_token
            + needed * peers.per_logits,
        ),
        "transformers": (
            lambda: theirs(longest + 1),
            len(rows) * (positions * peers.per_token + (longest + 1) * peers.per_logits),
        ),
    }


def sampling(
    peers: Peers, lengths: dict[str, list[np.ndarray]]
) -> dict[str, tuple[Callable[[], object], float]]:
    seeds = itertools.count()
    prompts = torch.tensor(peers.prompts)

    def ours(new_tokens: int = NEW_TOKENS) -> generation.Samples:
        samples = generation.sample(
            peers.ours.model,
            peers.prompts,
            key=jax.random.key(next(seeds)),
            n=SAMPLES,
            max_new_tokens=new_tokens,
            stop=peers.stop,
        )
        if new_tokens == NEW_TOKENS:
            lengths["gapjax"].append(samples.lengths)
        return samples

    def theirs() -> torch.Tensor:
        with torch.inference_mode():
            out = peers.theirs.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=NEW_TOKENS,
                num_return_sequences=SAMPLES,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                eos_token_id=peers.stop,
                pad_token_id=peers.stop[0],
            )
        ended = torch.isin(out[:, PROMPT_TOKENS:], torch.tensor(peers.stop)).int()
        lengths["transformers"].append((ended.cumsum(1) - ended == 0).sum(1).numpy())
        return out

    prefill = len(peers.prompts) * (PROMPT_TOKENS * peers.per_token + peers.per_logits)
    contestants = {
        "gapjax": (ours, np.nan),
        "gapjax, prompts and first token": (lambda: ours(1), prefill),
        "transformers": (theirs, np.nan),
    }
    if importlib.util.find_spec("tunix") is not None:
        contestants["google-tunix"] = (tunix(peers, lengths, seeds), np.nan)
    return contestants


def tunix(
    peers: Peers, lengths: dict[str, list[np.ndarray]], seeds: Iterator[int]
) -> Callable[[], object]:
    """Best-of-16 by google-tunix, whose greedy answers are checked first."""
    model, rows = peers.ours.model, [row for row in peers.prompts for _ in range(SAMPLES)]
    call = tunix_sampler(model, prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS, stop=peers.stop)
    greedy = generation.sample(
        model,
        peers.prompts,
        key=jax.random.key(0),
        n=1,
        max_new_tokens=NEW_TOKENS,
        stop=peers.stop,
        temperature=0.0,
    )
    for i, answer in enumerate(call(peers.prompts, greedy=True)):
        assert answer.tolist() == greedy.text_tokens(i, 0)
    lengths["google-tunix"] = []

    def theirs() -> list[np.ndarray]:
        answers = call(rows, seed=next(seeds))
        # The stop token, which is not part of them, took a step too.
        counts = np.array([min(len(answer) + 1, NEW_TOKENS) for answer in answers])
        lengths["google-tunix"].append(counts)
        return answers

    return theirs


def lora_step(peers: Peers, folder: str) -> dict[str, tuple[Callable[[], object], float]]:
    half = ROW_TOKENS // 2
    tokens = np.random.default_rng(0).integers(100, 40_000, (ROWS, ROW_TOKENS)).astype(np.int32)
    adapted = attach(
        peers.ours.model, rank=RANK, alpha=16, targets="attention", key=jax.random.key(0)
    )
    state = nnx.state(adapted, nnx.LoRAParam)
    nnx.update(adapted, jax.tree.map(lambda x: x + 0.001, state))  # nobody starts at zero
    save_adapter(adapted, folder)
    config = TrainConfig(
        rounds=1, epochs_per_round=1, batch_size=ROWS, learning_rate=1e-5, warmup_steps=0
    )
    trainer = Trainer(adapted, config)
    left, right = (
        pad_left(tokens[:, :half].tolist(), half),
        pad_right(tokens[:, half:].tolist(), half),
    )
    batch = Batch(*map(jnp.asarray, (*left, right[0][:, None], right[1][:, None])))
    training = trainer.init()

    def ours() -> tuple[float, float]:
        nonlocal training
        training, metrics = trainer.step(training, batch)
        return float(metrics["loss"]), float(metrics["gradient_norm"])

    model = PeftModel.from_pretrained(peers.theirs, folder, is_trainable=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=config.weight_decay)
    ids = torch.tensor(tokens).long()

    def theirs() -> tuple[float, float]:
        optimizer.zero_grad()
        logits = model(input_ids=ids, logits_to_keep=half + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, half:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        return loss.item(), norm.item()

    np.testing.assert_allclose(ours(), theirs(), rtol=1e-3)
    # Forward and the gradient of the inputs; the frozen weights need none.
    work = 2 * ROWS * (ROW_TOKENS * peers.per_token + half * peers.per_logits)
    return {"gapjax": (ours, work), "PEFT": (theirs, work)}


def rows_computed(lengths: np.ndarray, shrink: int) -> int:
    """Rows that the sampler feeds to the model after the first token, needed or not.

    The answers stay in a batch until as few are unfinished as fit one of a `shrink`-th the size.
    """
    size, total = lengths.size, 0
    for step in range(1, int(lengths.max())):
        left = int((lengths > step).sum())
        while size // shrink >= sampler._SMALLEST_BATCH and left <= size // shrink:
            size //= shrink
        total += size
    return total


def decoding_work(peers: Peers, lengths: np.ndarray) -> float:
    """Of all steps after the first token, for the answers that still need one."""
    return float((lengths - 1).sum()) * (peers.per_token + peers.per_logits)


# --- report --------------------------------------------------------------------------------


def table(rows: dict[str, Timed], against: Sequence[str]) -> list[str]:
    """Markdown rows; `against` are peers, which are given as multiples of gapjax's time."""
    peak = max(row.work / row.median for name, row in rows.items() if name.startswith("matmul"))
    lines = [
        "| | seconds | first call, above that | of the matmul peak | times gapjax |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        fraction = "" if np.isnan(row.work) else f"{row.work / row.median / peak:.0%}"
        times = f"{row.median / rows['gapjax'].median:.2f}" if name in against else ""
        rate = f" ({row.work / row.median / 1e9:.0f} GFLOP/s)" if name.startswith("matmul") else ""
        lines.append(
            f"| {name}{rate} | {quartiles(row.seconds, 1)} "
            f"| {max(row.first - row.median, 0):.1f} | {fraction} | {times} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=_RESULT)
    arguments = parser.parse_args()
    repeats, out = arguments.repeats, arguments.out
    cores = len(os.sched_getaffinity(0))  # `taskset` decides, for XLA too
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    peers = load()
    lengths: dict[str, list[np.ndarray]] = {"gapjax": [], "transformers": []}
    load_before = os.getloadavg()[0]

    sampled = compare(matmuls() | sampling(peers, lengths), repeats)
    average = ", ".join(
        f"{np.mean([each.mean() for each in all_]):.1f} tokens in {name}"
        for name, all_ in lengths.items()
    )
    needed, *computed = (
        sum(count(each) for each in lengths["gapjax"])
        for count in (
            lambda each: int((each - 1).sum()),
            lambda each: rows_computed(each, sampler._SHRINK),
            lambda each: rows_computed(each, 2),
        )
    )
    in_vain, in_vain_halving = (1 - needed / count for count in computed)
    begin = sampled["gapjax, prompts and first token"]
    decoding = Timed(
        "gapjax, the other tokens",
        0.0,
        sampled["gapjax"].seconds - begin.seconds,
        float(np.mean([decoding_work(peers, each) for each in lengths["gapjax"]])),
    )
    whole = sampled["gapjax"]._replace(work=begin.work + decoding.work)
    rows = {"gapjax": whole, begin.name: begin, decoding.name: decoding}
    sampled = {name: rows.get(name, row) for name, row in sampled.items()} | {
        decoding.name: decoding
    }

    answers = generation.sample(
        peers.ours.model,
        peers.prompts,
        key=jax.random.key(100),
        n=SAMPLES,
        max_new_tokens=NEW_TOKENS,
        stop=peers.stop,
    )
    scored = compare(matmuls() | scoring(peers, answers.answers()), repeats)
    with tempfile.TemporaryDirectory() as folder:
        stepped = compare(matmuls() | lora_step(peers, folder), repeats)

    tunix_says = "google-tunix is not installed, so it did not take part."
    if "google-tunix" in sampled:
        tunix_says = (
            f"google-tunix {importlib.metadata.version('google-tunix')} (its Qwen2 with zero "
            "biases, on the same weights) gives the same greedy answers."
        )
    lines = [
        "# SmolLM2-135M against transformers, PEFT and google-tunix",
        "",
        f"On {MACHINE}, of which {cores} used; load {load_before:.1f} before the "
        "start. Float32; seconds are median "
        f"[quartiles] of {repeats} interleaved runs. The work in the fraction of the peak are the "
        "matrix products of the layers and the logits, without attention and without padding on "
        f"gapjax's side. jax {jax.__version__}, torch {torch.__version__}. Written by "
        "`python -m benchmarks.language_models`, the last section by hand.",
        "",
        f"## Scoring {PROMPTS * SAMPLES} answers that share {PROMPTS} prompts",
        "",
        f"Prompts of {PROMPT_TOKENS} tokens, answers of {answers.lengths.mean():.1f} on average "
        f"and {answers.lengths.max()} at most. Log-probabilities agree within 1e-3.",
        "",
        *table(scored, ["transformers"]),
        "",
        f"## {SAMPLES} samples of each of {PROMPTS} prompts",
        "",
        f"{PROMPT_TOKENS} prompt tokens, at most {NEW_TOKENS} new ones. Each call has other random "
        f"numbers: answers of {average} on average. Of the rows that gapjax feeds to the model "
        f"after the first token, {in_vain:.0%} belong to answers that have ended; it would be "
        f"{in_vain_halving:.0%} if the batch were halved rather than quartered. {tunix_says}",
        "",
        *table(sampled, ["transformers", "google-tunix"]),
        "",
        f"## A LoRA step: rank {RANK} on the attention, {ROWS} rows of {ROW_TOKENS} tokens",
        "",
        f"AdamW with clipping; the loss is that of the last {ROW_TOKENS // 2} tokens. Loss and "
        "gradient norm agree within 1e-3.",
        "",
        *table(stepped, ["PEFT"]),
        "",
    ]
    text = "\n".join(lines)
    kept = out.read_text() if out.exists() else ""
    _, marker, remarks = kept.partition("## What bounds it")
    out.write_text(f"{text}\n{marker}{remarks}" if marker else text)
    print(text)


if __name__ == "__main__":
    main()
