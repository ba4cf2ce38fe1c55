"""Where the run went, where it is heading, and whether the law describes it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from gapjax.dynamics.plots import COLOURS, SYMBOLS
from gapjax.posterior.phase_plane import PhasePlane, phase_plane
from gapjax.posterior.result import SERIES, measurements
from gapjax.posterior.verdict import PATTERN, SECOND_OPINION
from gapjax.report import figures
from gapjax.report.outcome import Outcome, residuals
from gapjax.report.page import Section, Table, Verdict, draw
from gapjax.report.run_files import RunFiles
from gapjax.trajectories import MIN_CHECKPOINTS

_POOR = 0.9  # R² below which much is said to be unexplained


def trajectory_section(run: RunFiles, outcome: Outcome | None) -> Section:
    """U_s, U_v and gap along the run, with posterior bands if there is a posterior."""
    title = "Trajectory"
    shows = (
        "Uncertainty (negative log-likelihood, nats) of one sample, U_s, and of the selected best "
        "of N, U_v, on held-out problems; the gap between them is what the run feeds on."
    )
    if outcome is None:
        picture = draw(
            lambda axes: figures.draw_series(axes, run.trajectory),
            "U_s, U_v and the gap against the epoch",
        )
        verdict = Verdict(
            f"No posterior: {len(run.trajectory)} checkpoints, {MIN_CHECKPOINTS} are needed.",
            "unsure",
        )
        return Section(title, shows, (verdict,), (picture,))
    pictures = (
        draw(
            lambda axes: _draw_bands(axes, outcome),
            "U_s, U_v and the gap against the epoch, with posterior bands",
            "Dots: measured. Lines and bands: median, 50% and 90% of the noise-free curve under "
            f"the {outcome.law} law, continued half as far again.",
        ),
        draw(
            lambda axes: _draw_limits(axes, outcome),
            "The limits of the three series with 50% and 90% intervals",
            "Where they are heading: the limits, with 50% (thick) and 90% intervals"
            + ("." if outcome.identified else "; pale because the curve does not tell them."),
        ),
    )
    rows = []
    for series in SERIES:
        q, r2 = outcome.limit[series], outcome.r_squared[series]
        rows.append(
            (
                f"{series} {SYMBOLS[series]}",
                f"{q['q50']:.3g}",
                f"{q['q05']:.3g} to {q['q95']:.3g}",
                "–" if r2 is None else f"{r2:.3f}",
            )
        )
    table = Table(
        ("series", "limit (nats)", "90% interval", "R² of the median curve"),
        tuple(rows),
        f"From {outcome.how}.",
    )
    reason = f"{outcome.reason[0].upper()}{outcome.reason[1:]}."
    verdict = Verdict(reason, "good" if outcome.identified else "unsure")
    return Section(title, shows, (verdict,), pictures, (table,))


def phase_section(outcome: Outcome) -> Section:
    """U_v against U_s, the residuals, and where the law fits badly."""
    plane = phase_plane(outcome.curve)
    pictures = (
        draw(
            lambda axes: _draw_phase_plane(axes, outcome, plane),
            "U_v against U_s with a line, a parabola and the law's path",
            "Under constant coefficients the path is a straight line of slope ρ = β/α, whatever "
            "the gap potential; a bend says that verifier and solver do not move in proportion.",
        ),
        draw(
            lambda axes: _draw_residuals(axes, outcome),
            "Residuals of U_s and U_v against the epoch",
            "Measured minus median curve. Noise jumps about zero; waves and slopes are "
            "what the law misses.",
        ),
    )
    return Section(
        "Does the law fit?",
        "The path without time, and what the law leaves over.",
        tuple(_doubts(outcome, plane)),
        pictures,
        notes=(_same_side(outcome),),
    )


def _doubts(outcome: Outcome, plane: PhasePlane) -> list[Verdict]:
    """What speaks against the law, one sentence each."""
    found = []
    r2 = {s: v for s, v in outcome.r_squared.items() if v is not None}
    poor = ", ".join(f"{s} {v:.2f}" for s, v in r2.items() if v < _POOR)
    if poor:
        text = f"The {outcome.law} law, or noise, leaves much unexplained: R² {poor}."
        found.append(Verdict(text, "unsure"))
    if plane.warning:
        found.append(Verdict(f"{plane.warning[0].upper()}{plane.warning[1:]}.", "bad"))
    if PATTERN in outcome.reason:
        found.append(
            Verdict(
                "The residuals follow a pattern that noise would not: see the verdict on the "
                "trajectory.",
                "bad",
            )
        )
    if SECOND_OPINION in outcome.reason:
        said = outcome.reason[outcome.reason.index(SECOND_OPINION) :]
        found.append(Verdict(f"The second opinion disagrees: {said}.", "bad"))
    if not found:
        straight = "" if len(outcome.curve.epochs) < 6 else ", and the phase plane is straight"
        quality = ", ".join(f"{s} {v:.2f}" for s, v in r2.items())
        found.append(
            Verdict(
                f"Nothing speaks against the {outcome.law} law: R² {quality}{straight}.", "good"
            )
        )
    return found


def _same_side(outcome: Outcome) -> str:
    shares = []
    for series, left in residuals(outcome).items():
        same = int(np.sum(np.sign(left[1:]) == np.sign(left[:-1])))
        shares.append(f"{same} of {len(left) - 1} ({series})")
    return (
        f"Neighbouring residuals on the same side of zero: {', '.join(shares)}; "
        "about half by chance."
    )


def _draw_bands(axes: Axes, outcome: Outcome) -> None:
    measured = measurements(outcome.curve)
    for series in SERIES:
        colour = COLOURS[series]
        q05, q25, q50, q75, q95 = outcome.bands[series]
        axes.fill_between(outcome.epochs, q05, q95, color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(outcome.epochs, q25, q75, color=colour, alpha=0.25, linewidth=0)
        axes.plot(outcome.epochs, q50, color=colour, linewidth=1.3)
        label = f"{series} ${SYMBOLS[series]}$"
        axes.plot(
            outcome.curve.epochs, measured[series], "o", color=colour, markersize=3.5, label=label
        )
    last = outcome.curve.epochs[-1]
    if outcome.epochs[-1] > last:
        axes.axvline(last, color="0.6", linewidth=0.9, linestyle=":")
    inner = [outcome.bands[series][1:4].ravel() for series in SERIES]
    shown = np.concatenate([*inner, *measured.values()])
    low, high = min(shown.min(), 0.0), shown.max()
    axes.set_ylim(low - 0.04 * (high - low), high + 0.08 * (high - low))
    axes.set_xlabel("epoch")
    axes.set_ylabel("uncertainty (nats)")
    axes.legend(frameon=False, fontsize=8.5)


def _draw_limits(axes: Axes, outcome: Outcome) -> None:
    strength = 1.0 if outcome.identified else 0.4
    for row, series in enumerate(SERIES):
        q, colour = outcome.limit[series], COLOURS[series]
        now = measurements(outcome.curve)[series][-1]
        axes.plot([q["q05"], q["q95"]], [row] * 2, color=colour, linewidth=1.6, alpha=strength)
        axes.plot([q["q25"], q["q75"]], [row] * 2, color=colour, linewidth=6, alpha=strength)
        axes.plot(q["q50"], row, "|", color=colour, markersize=15, markeredgewidth=1.6)
        axes.plot(now, row, "o", color=colour, markersize=4.5, markerfacecolor="none")
    axes.set_yticks(range(3), [f"{s}\n${SYMBOLS[s]}$" for s in SERIES])
    for label, series in zip(axes.get_yticklabels(), SERIES, strict=True):
        label.set_color(COLOURS[series])
    axes.set_ylim(2.6, -0.6)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_xlabel("limit (nats); circle: the last measurement")
    axes.grid(axis="x", color="0.93")


def _draw_phase_plane(axes: Axes, outcome: Outcome, plane: PhasePlane) -> None:
    curve = outcome.curve
    axes.plot(curve.solver, curve.verifier, "o-", color="0.45", markersize=3.5, linewidth=0.6)
    x = np.linspace(curve.solver.min(), curve.solver.max(), 100)
    if np.ptp(curve.solver) > 0:
        line = np.polynomial.Polynomial.fit(curve.solver, curve.verifier, 1)
        slope = float(line.convert().coef[-1])
        label = f"line, slope {slope:.2f}"
        axes.plot(x, line(x), color=COLOURS["solver"], linewidth=1.3, label=label)
        parabola = np.polynomial.Polynomial(plane.coefficients)
        label = "parabola" + (" (needed)" if plane.contradicts_constant_coupling else "")
        axes.plot(x, parabola(x), "--", color=COLOURS["verifier"], linewidth=1.1, label=label)
    axes.plot(*outcome.fitted.T, ":", color="0.2", linewidth=1.2, label=f"{outcome.law} law")
    axes.annotate(
        "start",
        (curve.solver[0], curve.verifier[0]),
        xytext=(-6, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    axes.set_xlabel("solver $U_s$ (nats)")
    axes.set_ylabel("verifier $U_v$ (nats)")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")


def _draw_residuals(axes: Axes, outcome: Outcome) -> None:
    axes.axhline(0, color="0.7", linewidth=0.8)
    for series, left in residuals(outcome).items():
        label = f"{series} ${SYMBOLS[series]}$"
        axes.plot(
            outcome.curve.epochs,
            left,
            "o-",
            color=COLOURS[series],
            markersize=3.5,
            linewidth=0.8,
            label=label,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("measured − law (nats)")
    axes.legend(frameon=False, fontsize=8.5)
