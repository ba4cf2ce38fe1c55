"""A run as plain files: no model was asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

HOSTILE = "<script>alert(1)</script>\x00\x1b[31m\u202e&lt; ]]> \ud800 {{ 7*7 }}"
N = 4


def _candidate(rng: np.random.Generator, *, right: bool, text: str) -> dict:
    logprob = float(-rng.gamma(2.0, 0.3 if right else 0.8))
    score = float(np.clip(rng.normal(0.7 if right else 0.4, 0.15), 0, 1))
    return {
        "text": text,
        "tokens": [1, 2, 3],
        "logprob": round(logprob, 6),
        "length": 3,
        "finished": True,
        "score": round(score, 6),
        "grade": "correct" if right else "incorrect",
    }


def _problems(accuracy: float, count: int, seed: int, *, known: bool, constant: bool) -> list[dict]:
    rows = []
    for p in range(count):
        rng = np.random.default_rng([seed, p])
        right = rng.random(N) < accuracy
        texts = [
            f"{p + 1}" if r else (HOSTILE if p == 0 else f"no {n}") for n, r in enumerate(right)
        ]
        candidates = [
            _candidate(rng, right=bool(r), text=t) for r, t in zip(right, texts, strict=True)
        ]
        for each in candidates:
            each["score"] = 1.0 if constant else each["score"]
            each["grade"] = each["grade"] if known else None
        chosen = int(np.argmax([each["logprob"] for each in candidates]))
        rows.append(
            {
                "prompt": HOSTILE if p == 0 else f"{p} + 1 =",
                "answer": f"{p + 1}" if known else None,
                "chosen": chosen,
                "reason": "least uncertainty a token of those that passed",
                "fell_back": False,
                "candidates": candidates,
            }
        )
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_run(
    folder: Path,
    *,
    checkpoints: int = 12,
    known: bool = True,
    constant: bool = False,
    finished: bool = True,
    steps: int = 4,
) -> Path:
    """The files of a run whose gap relaxes exponentially."""
    (folder / "samples").mkdir(parents=True)
    rng = np.random.default_rng(0)
    events: list[dict] = []
    table = []
    for i in range(checkpoints):
        epoch = 0.5 * i
        left = np.exp(-0.5 * epoch)
        solver = 4 + 6 * left + rng.normal(0, 0.05)
        verifier = 2 + 3 * left + rng.normal(0, 0.05)
        metrics = {
            "solver_uncertainty": solver,
            "verifier_uncertainty": verifier,
            "gap": solver - verifier,
            "solver_sem": 0.1,
            "verifier_sem": 0.1,
            "gap_sem": 0.05,
            "solver_tokens": 3.0,
            "solver_cut_off": 0.0,
            "answer_entropy": 1.0 + left,
        }
        if known:
            accuracy = 0.8 - 0.5 * left
            metrics |= {
                "solver_accuracy": accuracy,
                "verifier_accuracy": accuracy + 0.1,
                "solver_accuracy_sem": 0.02,
                "verifier_accuracy_sem": 0.03,
                "oracle_uncertainty": 3.0,
                "verifier_auc": 0.8,
                "verifier_brier": 0.2,
                "pass_at_1": accuracy,
                "pass_at_2": accuracy + 0.1,
                f"pass_at_{N}": 0.95,
            }
        seconds = {"sample": 2.0 if i else 9.0, "grade": 0.1, "verify": 0.5}
        about = {"epoch": epoch, "seconds": seconds, "tokens": 600}
        events.append({"event": "measure", **about, **metrics})
        judged = {"event": "judge", "epoch": epoch, "cautions": [], "stop": None}
        if i > 2:
            quantiles = {"q05": 3.0, "q25": 3.5, "q50": 4.0, "q75": 4.5, "q95": 5.0}
            judged |= {"limit": quantiles, "identified": i > 6, "reason": "", "converged": True}
            judged["cautions"] = [f"lengths drive the change of U_s: {i} nats"]
        events.append(judged)
        if i == 0:
            about = {"round": 0, "learned": 6, "external_share": 0.0}
            events.append({"event": "select", **about, "seconds": seconds, "tokens": 600})
        for step in range(steps):
            at = {"epoch": epoch + 0.5 * (step + 1) / steps, "step": i * steps + step + 1}
            loss = {"loss": 1 / (1 + i), "gradient_norm": 1.0, "seconds": 0.2, "tokens": 90}
            events.append({"event": "train", **at, **loss})
        table.append(
            {"recipe": "made", "version": "gapjax 0", "seed": 0, "epoch": epoch, **metrics}
        )
        if i in (0, checkpoints - 1):
            rows = _problems(0.3 + 0.5 * (i > 0), 24, i, known=known, constant=constant)
            write_jsonl(folder / "samples" / f"probe-{i:03d}.jsonl", rows)
    if finished:
        ended = {"event": "finish", "epoch": table[-1]["epoch"], "reason": "a made-up reason"}
        events.append(ended)
    write_jsonl(folder / "metrics.jsonl", events)
    rows = _problems(0.3, 6, 99, known=known, constant=constant)
    write_jsonl(folder / "samples" / "round-000.jsonl", rows)
    pd.DataFrame(table).to_csv(folder / "trajectory.csv", index=False)
    (folder / "recipe.yaml").write_text("model: made\nseed: 0\ntask: {name: jsonl}\n")
    versions = {"python": "3", "gapjax": "0", "git": {"commit": "c0ffee", "changed": True}}
    (folder / "versions.json").write_text(json.dumps(versions))
    return folder


@pytest.fixture(scope="session")
def made_run(tmp_path_factory) -> Path:
    """A finished run with its page."""
    from gapjax.report import write_report

    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return folder
