"""The numbers of one checkpoint: the gap, and what might explain it away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import gammaln
from scipy.stats import rankdata

from gapjax.selfimprove.candidates import Outcomes
from gapjax.selfimprove.select import best_of_n


def summarise(outcomes: Outcomes) -> dict[str, float]:
    """Metrics of a probe set, named as the columns of the trajectory table.

    The solver's numbers are means over all N candidates of a problem: the expectation
    of "one response per prompt" with an N-th of the sampling noise. Standard errors
    are over problems. Uncertainties in nats, lengths in tokens.

    Source: arXiv:2507.00075, definitions of solver and verifier uncertainty.
    """
    chosen, total, lengths = outcomes.of_chosen, outcomes.uncertainties, outcomes.lengths
    solver, verifier = total.mean(axis=1), chosen(total)
    metrics = {
        "solver_uncertainty": solver.mean(),
        "verifier_uncertainty": verifier.mean(),
        "gap": (solver - verifier).mean(),
        "solver_sem": _sem(solver),
        "verifier_sem": _sem(verifier),
        "gap_sem": _sem(solver - verifier),
        "solver_uncertainty_per_token": (total / lengths).mean(),
        "verifier_uncertainty_per_token": chosen(total / lengths).mean(),
        "solver_tokens": lengths.mean(),
        "verifier_tokens": chosen(lengths).mean(),
        "solver_cut_off": (~outcomes.finished).mean(),
        "verifier_cut_off": chosen(~outcomes.finished).mean(),
        "fallback": outcomes.fell_back.mean(),
        "answer_entropy": outcomes.entropies.mean(),
    }
    scored = ~np.isnan(outcomes.scores)
    metrics["unscored"] = 1 - scored.mean()
    if chosen(scored).any():
        metrics |= {
            "solver_score": outcomes.scores[scored].mean(),
            "verifier_score": chosen(outcomes.scores)[chosen(scored)].mean(),
        }
    if outcomes.graded.any():
        metrics |= _against_the_truth(outcomes)
    return {name: float(value) for name, value in metrics.items()}


def _against_the_truth(outcomes: Outcomes) -> dict[str, float]:
    """Accuracies and the verifier's quality, over the problems with a known answer.

    An answer whose grading failed is not right; how many there were stands beside, and alone if
    they all did: then nothing is known of the truth. Selection by the truth (`oracle`) is the best
    that any verifier could do with these samples; choosing at random is the solver.
    """
    known = outcomes.graded
    correct, scores = outcomes.correct[known], outcomes.scores[known]
    uncertainties, grades = outcomes.uncertainties[known], outcomes.grades[known]
    failed = {
        "grading_timeouts": (grades == "timeout").mean(),
        "grading_errors": (grades == "error").mean(),
    }
    if not known.all():
        failed["ungraded"] = 1 - known.mean()
    if np.isin(grades, ("timeout", "error")).all():
        return failed
    oracle = best_of_n(
        correct.astype(float),
        uncertainties,
        outcomes.lengths[known],
        threshold=0.5,
        eligible=outcomes.eligible[known],
    )
    row = np.arange(len(correct))
    metrics = {
        "solver_accuracy": correct.mean(),
        "verifier_accuracy": outcomes.of_chosen(outcomes.correct)[known].mean(),
        "solver_accuracy_sem": _sem(correct.mean(axis=1)),
        "verifier_accuracy_sem": _sem(outcomes.of_chosen(outcomes.correct)[known]),
        "oracle_uncertainty": uncertainties[row, oracle.index].mean(),
    } | failed
    scored = ~np.isnan(scores)
    if scored.any():
        metrics |= _of_the_scores(scores[scored], correct[scored])
    for k in _powers_of_two(correct.shape[1]):
        metrics[f"pass_at_{k}"] = pass_at_k(correct, k)
    return metrics


def _of_the_scores(
    scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> dict[str, float]:
    quality = {
        "verifier_brier": float(((scores - correct) ** 2).mean()),
        "verifier_ece": expected_calibration_error(scores, correct),
    }
    if 0 < correct.mean() < 1:
        quality["verifier_auc"] = auc(scores, correct)
    return quality


def expected_calibration_error(
    scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], bins: int = 10
) -> float:
    """Mean distance of scores in [0, 1] from the share of right answers, over bins of equal width.

    Weighted by the number of answers in a bin. Source: arXiv:1706.04599, equation 3.
    """
    bin_of = np.minimum((scores * bins).astype(int), bins - 1)
    surplus = np.bincount(bin_of, weights=scores - correct, minlength=bins)
    return float(np.abs(surplus).sum() / len(scores))


def auc(scores: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> float:
    """Probability that a right answer scores higher than a wrong one; ties count half."""
    ranks = rankdata(scores)
    right = int(correct.sum())
    wins = ranks[correct].sum() - right * (right + 1) / 2
    return float(wins / (right * (len(correct) - right)))


def pass_at_k(correct: Bool[np.ndarray, "P N"], k: int) -> float:
    """Probability that at least one of k candidates is right, mean over problems.

    Unbiased from N ≥ k candidates: `1 − C(N−c, k)/C(N, k)` (arXiv:2107.03374).
    """
    n = correct.shape[1]
    wrong = n - correct.sum(axis=1)

    def log_choose(m: np.ndarray | int) -> np.ndarray:
        return gammaln(np.add(m, 1)) - gammaln(np.maximum(np.subtract(m, k), 0) + 1)

    ratio = np.where(wrong >= k, np.exp(log_choose(wrong) - log_choose(n)), 0.0)
    return float((1.0 - ratio).mean())


def _sem(values: Float[np.ndarray, " P"]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _powers_of_two(n: int) -> list[int]:
    powers = [2**i for i in range(n.bit_length()) if 2**i < n]
    return [*powers, n]
