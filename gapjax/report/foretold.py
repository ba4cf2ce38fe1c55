"""What the first half of a run foretold about the second."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from gapjax import trajectories
from gapjax.dynamics.plots import COLOURS, SYMBOLS
from gapjax.posterior import fit
from gapjax.posterior.forecast import predict
from gapjax.posterior.result import SERIES, measurements
from gapjax.posterior.scores import covered
from gapjax.report.outcome import LEVELS
from gapjax.report.page import Section, Table, Verdict, draw
from gapjax.trajectories import Curve

_FEWEST = 8
_MOST = 128  # checkpoints that are used; a longer run is thinned evenly
# The laws, how each is fitted, and what it is called.
_LAWS = (
    ("stochastic", "smc", "stochastic dynamics"),
    ("exponential", "map", "exponential law (fast fit)"),
)


class Foretold(NamedTuple):
    """One law's forecast of the later checkpoints and what then happened.

    - `quantiles`: of the predictive draws at `LEVELS`, by series (nats).
    - `inside`: share of later points in the central 50% and 90% bands, by series.
    - `errors`: mean distance of the median from the later points, by series (nats).
    """

    name: str
    quantiles: dict[str, Float[np.ndarray, "levels time"]]
    inside: dict[str, tuple[float, float]]
    errors: dict[str, float]


def foretell(curve: Curve, *, seed: int) -> tuple[Curve, list[Foretold]]:
    """Forecasts from the first half of a curve's checkpoints, and that half."""
    known = curve.until(curve.epochs[len(curve.epochs) // 2 - 1])
    later = curve.epochs > known.epochs[-1]
    half = trajectories.Trajectories((known,))
    forecasts = []
    for law, method, name in _LAWS:
        fitted = fit(half, law, method=method, seed=seed, check_laws=False)[0]  # type: ignore[arg-type]
        draws = predict(fitted, curve.epochs[later], seed=seed)
        truth = {series: values[later] for series, values in measurements(curve).items()}
        quantiles = {s: np.quantile(draws[s], LEVELS, axis=0) for s in SERIES}
        forecasts.append(
            Foretold(
                name=name,
                quantiles=quantiles,
                inside={
                    s: (
                        float(covered(draws[s], truth[s], 50).mean()),
                        float(covered(draws[s], truth[s], 90).mean()),
                    )
                    for s in SERIES
                },
                errors={s: float(np.abs(quantiles[s][2] - truth[s]).mean()) for s in SERIES},
            )
        )
    return known, forecasts


def foretold_section(curve: Curve | None, checkpoints: int, *, seed: int) -> Section:
    """Posterior fans of the first half, drawn over what then happened."""
    title = "What the first half foretold"
    shows = (
        "The laws saw the filled points only; the hollow ones were measured later. "
        "Median, 50% and 90% bands of what a measurement would show, noise included."
    )
    if curve is None or checkpoints < _FEWEST:
        text = f"Absent: {checkpoints} checkpoints, {_FEWEST} are needed to hold half of them back."
        return Section(title, shows, (Verdict(text, "unsure"),))
    notes = []
    if checkpoints > _MOST:
        keep = np.linspace(0, checkpoints - 1, _MOST).round().astype(int)
        curve = Curve(curve.labels, curve.epochs[keep], curve.solver[keep], curve.verifier[keep])
        notes.append(f"{_MOST} of {checkpoints} checkpoints, evenly spaced, were used.")
    known, forecasts = foretell(curve, seed=seed)
    later = len(curve.epochs) - len(known.epochs)
    pictures = tuple(
        draw(
            lambda axes, each=each: _draw_fan(axes, curve, known, each),  # type: ignore[misc]
            f"Forecast by the {each.name} from the first half, and what was measured later",
            f"{each.name[0].upper()}{each.name[1:]}.",
        )
        for each in forecasts
    )
    stayed = {
        series: float(np.abs(values[len(known.epochs) - 1] - values[len(known.epochs) :]).mean())
        for series, values in measurements(curve).items()
    }
    rows = [
        (
            f"{each.name}, {series} {SYMBOLS[series]}",
            str(later),
            f"{each.inside[series][0]:.0%}",
            f"{each.inside[series][1]:.0%}",
            f"{each.errors[series]:.3g}",
            f"{stayed[series]:.3g}",
        )
        for each in forecasts
        for series in SERIES
    ]
    header = (
        "forecast",
        "later points",
        "in the 50% band",
        "in the 90% band",
        "mean error of the median (nats)",
        "had nothing changed (nats)",
    )
    caption = "Points of one run lean on each other, so these shares are rough."
    verdicts = tuple(_verdict(each, later, stayed["solver"]) for each in forecasts)
    return Section(
        title, shows, verdicts, pictures, (Table(header, tuple(rows), caption),), tuple(notes)
    )


def _verdict(each: Foretold, later: int, stayed: float) -> Verdict:
    """Of the solver's curve: whether the bands held, and whether the forecast was of use."""
    within, error = each.inside["solver"][1], each.errors["solver"]
    text = (
        f"{each.name[0].upper()}{each.name[1:]}: the 90% band of U_s held {within:.0%} of {later} "
        f"later points; its median was off by {error:.3g} nats on average, where “nothing changes "
        f"any more” would have been off by {stayed:.3g}."
    )
    if within < 0.7:
        return Verdict(f"{text} It was too sure of itself.", "bad")
    if error >= stayed:
        return Verdict(f"{text} As a forecast it was of no use.", "unsure")
    return Verdict(text, "good")


def _draw_fan(axes: Axes, curve: Curve, known: Curve, each: Foretold) -> None:
    n = len(known.epochs)
    origin, measured = known.epochs[-1], measurements(curve)
    epochs = np.append(origin, curve.epochs[n:])
    shown: list[np.ndarray] = []
    for series in SERIES:
        colour, values = COLOURS[series], measured[series]
        start = np.full((len(LEVELS), 1), values[n - 1])
        q05, q25, q50, q75, q95 = np.concatenate([start, each.quantiles[series]], axis=1)
        axes.fill_between(epochs, q05, q95, color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(epochs, q25, q75, color=colour, alpha=0.25, linewidth=0)
        axes.plot(epochs, q50, color=colour, linewidth=1.3)
        label = f"{series} ${SYMBOLS[series]}$"
        axes.plot(known.epochs, values[:n], "o", color=colour, markersize=3.5, label=label)
        axes.plot(
            curve.epochs[n:],
            values[n:],
            "o",
            markersize=3.5,
            markerfacecolor="none",
            markeredgecolor=colour,
        )
        shown += [values, q25, q75, q05[: n // 2], q95[: n // 2]]
    low, high = min(v.min() for v in shown), max(v.max() for v in shown)
    axes.set_ylim(min(low, 0) - 0.03 * high, high * 1.06)
    axes.axvline(origin, color="0.6", linewidth=0.9, linestyle=":")
    axes.set_xlabel("epoch")
    axes.set_ylabel("uncertainty (nats)")
    axes.legend(frameon=False, fontsize=8.5)
