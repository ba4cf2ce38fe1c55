"""What more training would bring, by the live posterior, and when that is not enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float

from gapjax.paired import SURE, Change
from gapjax.posterior import fit
from gapjax.posterior.result import Quantiles
from gapjax.selfimprove.recipe import StopConfig
from gapjax.trajectories import MIN_CHECKPOINTS

# Draws of the Student-t around the mode: chains, and of each.
_CHAINS, _DRAWS = 2, 500
_MANY = 0.1  # share of answers whose grading failed, or that were cut off, that is spoken of


@dataclasses.dataclass(frozen=True, eq=False)
class Outlook:
    """The posterior of the exponential law after some checkpoints (the fast fit, a Student-t).

    `gains[d, h]` is what the solver's noise-free uncertainty (nats) falls until `epochs[h]` in
    draw d; the last of these epochs is the end of the budget.
    """

    epoch: float
    limit: Quantiles  # of the solver's uncertainty, nats
    identified: bool
    reason: str  # why it is identified, or not
    converged: bool
    epochs: Float[np.ndarray, " horizons"]
    gains: Float[np.ndarray, "draws horizons"]

    @property
    def expected_gain(self) -> float:
        """Of the remaining epochs (nats)."""
        return float(self.gains[:, -1].mean())


def look_ahead(
    history: Sequence[tuple[float, dict[str, float]]], end: float, *, every: float, seed: int
) -> Outlook | None:
    """The outlook after the checkpoints `history`; None if there are too few or it is over.

    **Arguments:**

    - `history`: epoch and metrics of each.
    - `end`: the last epoch of the budget; `every`: distance of the horizons before it.
    - `seed`: of the draws.
    """
    now = history[-1][0]
    if len(history) < MIN_CHECKPOINTS or now >= end - 1e-9:
        return None
    columns = ("solver_uncertainty", "verifier_uncertainty")
    table = pd.DataFrame([{"epoch": e, **{c: m[c] for c in columns}} for e, m in history])
    curve = fit(table, method="map", seed=seed, chains=_CHAINS, draws=_DRAWS)[0]
    # A fixed number of horizons, so that nothing compiles anew as the end comes nearer.
    first = history[0][0]
    count = max(1, round((end - first) / every))  # `every` may be longer than the run
    horizons = np.maximum(first + every * np.arange(1, count + 1), now)
    horizons[-1] = end
    solver = curve.paths(np.concatenate([[now], horizons]))["solver"]
    ahead = horizons > now + 1e-9
    return Outlook(
        epoch=now,
        limit=curve.limit["solver"],
        identified=curve.identified,
        reason=curve.reason,
        converged=curve.converged,
        epochs=horizons[ahead],
        gains=(solver[:, :1] - solver[:, 1:])[:, ahead],
    )


class StopPolicy(Protocol):
    """Decides after a measurement whether to stop."""

    def __call__(self, outlook: Outlook) -> str | None:
        """Why to stop; None to go on."""
        ...


@dataclasses.dataclass(frozen=True)
class SpendBudget:
    """Never stops early."""

    def __call__(self, outlook: Outlook) -> str | None:
        del outlook
        return None


@dataclasses.dataclass(frozen=True)
class SmallGain:
    """Stops when P(remaining gain > `gain`) < `probability`; the gain in nats."""

    gain: float
    probability: float

    def __call__(self, outlook: Outlook) -> str | None:
        p = float((outlook.gains[:, -1] > self.gain).mean())
        if not outlook.converged or p >= self.probability:
            return None
        return f"P(remaining gain > {self.gain:g} nats) = {p:.3f} is below {self.probability:g}"


@dataclasses.dataclass(frozen=True)
class Price:
    """Stops when no horizon within the budget promises `price` nats of gain an epoch."""

    price: float

    def __call__(self, outlook: Outlook) -> str | None:
        per_epoch = outlook.gains.mean(axis=0) / (outlook.epochs - outlook.epoch)
        if not outlook.converged or per_epoch.max() >= self.price:
            return None
        return (
            f"the expected gain is {per_epoch.max():.3g} nats an epoch at best, "
            f"less than the price of {self.price:g}"
        )


def make_policy(config: StopConfig) -> StopPolicy:
    """The policy of a recipe."""
    match config.rule:
        case "budget":
            return SpendBudget()
        case "small_gain":
            return SmallGain(config.gain, config.probability)
        case "price":
            return Price(config.price)


def cautions(first: dict[str, float], now: dict[str, float]) -> list[str]:
    """What speaks against taking the change since the first measurement at face value.

    **Arguments:**

    - `first`, `now`: metrics of the two. Changes count beyond two standard errors: of the paired
        differences (`gapjax.selfimprove.since_first`) where `now` has them.
    """
    found = []
    if now["gap"] <= 0:
        found.append(f"the verifier is no better than the solver: gap {now['gap']:.3g} nats")
    failed = now.get("grading_errors", 0) + now.get("grading_timeouts", 0)
    if failed > _MANY:
        found.append(
            f"many answers could not be graded, and count as not right: {failed:.1%}"
            if failed < 1
            else "many answers could not be graded: none could, so no accuracy is known"
        )
    if (cut_off := now.get("solver_cut_off", 0.0)) > _MANY:
        found.append(f"many answers are cut off at max_new_tokens: {cut_off:.1%}")
    if (solver := _change(first, now, "solver_accuracy")) and solver.direction < 0:
        found.append(f"one sample is right less often than at first: {solver}")
    if (selected := _change(first, now, "verifier_accuracy")) and selected.direction < 0:
        surer = ", while the model is surer of them" if _surer(first, now) else ""
        found.append(f"selected answers are right less often than at first: {selected}{surer}")
    change = now["solver_uncertainty"] - first["solver_uncertainty"]
    per_token = first["solver_uncertainty"] / first["solver_tokens"]
    by_length = per_token * (now["solver_tokens"] - first["solver_tokens"])
    alone = float(np.hypot(now["solver_sem"], first["solver_sem"]))
    error = now.get("solver_change_sem", alone)
    if abs(change) > SURE * error and by_length / change > 0.5:
        found.append(
            f"lengths drive the change of U_s: {by_length:+.3g} of {change:+.3g} nats, from "
            f"{first['solver_tokens']:.3g} to {now['solver_tokens']:.3g} tokens"
        )
    return found


def _change(first: dict[str, float], now: dict[str, float], name: str) -> Change | None:
    """Of an accuracy; its error is that of the same problems, where it is known."""
    if name not in first or name not in now:
        return None
    alone = float(np.hypot(now[f"{name}_sem"], first[f"{name}_sem"]))
    return Change(first[name], now[name], now.get(f"{name}_change_sem", alone))


def _surer(first: dict[str, float], now: dict[str, float]) -> bool:
    # There is no score where the verifier had nothing to say on any selected answer.
    if "verifier_score" not in first or "verifier_score" not in now:
        return False
    if now["verifier_score"] != first["verifier_score"]:
        return now["verifier_score"] > first["verifier_score"]
    # Where the score is a constant, likelihood is what the model selects by.
    return now["verifier_uncertainty_per_token"] < first["verifier_uncertainty_per_token"]
