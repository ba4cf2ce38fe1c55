"""When should external data be used?  The paper's timing claim, and where it ends.

    python -m benchmarks.external_timing      # a few seconds; writes a picture and a table

arXiv:2507.00075 (section 5) uses a fixed set of external examples early, uniformly or late
and finds the final solver about the same (Phi-4-mini on MATH: 46.33 / 46.56 / 45.83 %
accuracy, 45.08 % without).  Here the same in the gap equations, with numbers like those of
the published curves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gapjax.dynamics import (
    External,
    GapSystem,
    LinearPotential,
    early,
    float64_on_cpu,
    late,
    simulate,
    uniform,
)

SOLVER0, VERIFIER0 = 12.0, 8.0
SYSTEM = GapSystem(1.0, 0.4, LinearPotential(0.7, 0.42))  # γ = 0.42 per round, G∞ = 0.6 nats
PLANS: dict[str, Callable[[int], Mapping[int, float]]] = {
    "early": early,
    "uniform": uniform,
    "late": late,
}
COLOURS = {"none": "0.55", "early": "#1f5fa8", "uniform": "#4f7a3a", "late": "#c8641b"}
ROUNDS, LONGEST = 10, 30
DECAY = 0.3  # per round, where γ_x decays
LIMITED, STRONG = 0.02, 0.5
_ROOT = Path(__file__).parents[1]


@jax.jit
@partial(jnp.vectorize, signature="(r),(r),(t)->(t)")
def _solver(
    shares: Float[Array, " rounds"], strengths: Float[Array, " rounds"], at: Float[Array, " time"]
) -> Float[Array, " time"]:
    data = External(tuple(range(1, LONGEST + 1)), shares, strengths)
    return simulate(SYSTEM, SOLVER0, VERIFIER0, at, external=data).solver


def solver(
    plan: str, strength: ArrayLike, rounds: int, at: ArrayLike, decay: float = 0.0
) -> Float[np.ndarray, "*strengths time"]:
    """`U_s` (nats) at rounds `at` of a run of `rounds`, the strength being `γ_x·exp(−decay·t)`.

    Every run is one of the longest, without data after its end: one program serves all.
    """
    numbers = np.arange(1, LONGEST + 1)
    planned = {} if plan == "none" else PLANS[plan](rounds)
    shares = np.array([planned.get(int(t), 0.0) for t in numbers])
    strengths = np.asarray(strength)[..., None] * np.exp(-decay * numbers)
    return np.asarray(_solver(shares, strengths, np.asarray(at, float)))


class Outcome(NamedTuple):
    """A run's final `U_s` (nats) without data and for every timing, and what timing decides.

    - `of_training`: best against worst timing, as a share of what the run achieves without data.
    - `of_gain`: the same as a share of what the data gain at their best.
    """

    none: Float[np.ndarray, "*strengths"]
    plans: dict[str, Float[np.ndarray, "*strengths"]]

    @property
    def _spread(self) -> np.ndarray:
        return np.ptp(np.stack([*self.plans.values()]), axis=0)

    @property
    def of_training(self) -> np.ndarray:
        return self._spread / (SOLVER0 - self.none)

    @property
    def of_gain(self) -> np.ndarray:
        return self._spread / (self.none - np.min(np.stack([*self.plans.values()]), axis=0))


def outcome(strength: ArrayLike, rounds: int, decay: float = 0.0) -> Outcome:
    """The final solver of every plan."""
    finals = {
        plan: solver(plan, strength, rounds, [rounds], decay)[..., 0] for plan in ("none", *PLANS)
    }
    return Outcome(finals.pop("none"), finals)


def _draw_runs(axes: Axes, strength: float, title: str) -> None:
    at = np.linspace(0, ROUNDS, 401)
    for plan, colour in COLOURS.items():
        path = solver(plan, strength, ROUNDS, at)
        label = {"none": "no external data", "uniform": "uniform"}.get(plan, f"all {plan}")
        style = "--" if plan == "none" else "-"
        axes.plot(at, path, style, color=colour, label=f"{label}: {path[-1]:.2f}")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("round")
    axes.set_ylabel("solver uncertainty $U_s$ (nats)")
    axes.legend(frameon=False, fontsize=8.5, title="after 10 rounds (nats)", title_fontsize=8.5)


def _draw_spread(axes: Axes) -> None:
    strengths = np.logspace(-2.5, np.log10(STRONG), 120)
    for rounds, decay, style, label in (
        (10, 0.0, "-", "10 rounds"),
        (5, 0.0, "-", "5 rounds"),
        (3, 0.0, "-", "3 rounds"),
        (10, DECAY, "--", rf"10 rounds, $\gamma_x e^{{-{DECAY:g}t}}$"),
    ):
        shade = {10: "#123c6b", 5: "#3f7fc4", 3: "#9cc1e8"}[rounds]
        spread = outcome(strengths, rounds, decay).of_training
        axes.loglog(strengths, 100 * spread, style, color=shade, label=label)
    axes.axhline(5, color="0.6", linewidth=0.8, linestyle=":")
    axes.text(strengths[-1], 5.3, "5%", fontsize=8.5, color="0.4", ha="right")
    for strength, name in ((LIMITED, "(a)"), (STRONG, "(b)")):
        axes.axvline(strength, color="0.8", linewidth=0.8, zorder=0)
        axes.text(strength, 0.16, f"{name} ", fontsize=8.5, color="0.4", ha="right")
    axes.set_ylim(0.14, None)
    axes.set_yticks([0.3, 1, 3, 10, 30, 100], ["0.3%", "1%", "3%", "10%", "30%", "100%"])
    axes.set_xticks([0.003, 0.01, 0.03, 0.1, 0.3], ["0.003", "0.01", "0.03", "0.1", "0.3"])
    axes.set_xlabel(r"strength of external data $\gamma_x$")
    axes.set_ylabel("best against worst timing,\nas a share of training's gain")
    axes.set_title("(c) stronger data: timing starts to matter", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8.5)


def _draw_kept(axes: Axes) -> None:
    lengths = np.arange(3, LONGEST + 1)
    runs = {decay: [outcome(LIMITED, int(n), decay) for n in lengths] for decay in (0, DECAY)}
    for plan in PLANS:
        for decay, style in ((0, "-"), (DECAY, "--")):
            gain = np.array([float(o.none - o.plans[plan]) for o in runs[decay]])
            axes.plot(lengths, gain, style, color=COLOURS[plan])
    handles = [axes.plot([], [], color=COLOURS[p])[0] for p in PLANS]
    handles += [axes.plot([], [], style, color="0.3")[0] for style in ("-", "--")]
    names = [*PLANS, r"$\gamma_x$ constant", rf"$\gamma_x e^{{-{DECAY:g}t}}$"]
    axes.legend(handles, names, frameon=False, fontsize=8.5, ncols=2, loc="upper right")
    axes.set_ylim(0, 0.3)
    axes.set_xlabel("length of the run (rounds)")
    axes.set_ylabel("what the data gain in $U_s$ (nats)")
    axes.set_title(
        rf"(d) but late data gain less ($\gamma_x={LIMITED:g}$)", loc="left", fontsize=10
    )


def timing_figure() -> Figure:
    """The claim (a), its end (b, c), and what it hides (d)."""
    figure = Figure(figsize=(9.2, 7.0), layout="constrained")
    panels = figure.subplots(2, 2)
    _draw_runs(panels[0, 0], LIMITED, rf"(a) limited data, $\gamma_x={LIMITED:g}$: timing is moot")
    _draw_runs(panels[0, 1], STRONG, rf"(b) strong data, $\gamma_x={STRONG:g}$: it decides")
    panels[0, 1].sharey(panels[0, 0])
    _draw_spread(panels[1, 0])
    _draw_kept(panels[1, 1])
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def table() -> str:
    """The outcome of each regime in Markdown."""
    lines = [
        "# When external data is used",
        "",
        "Final solver uncertainty (nats) in the gap equations: `U_s0 = 12`, `U_v0 = 8`, "
        "`α = 1`, `β = 0.4`, `E = 0.7·G − 0.42` (a rate of 0.42 per round). "
        "Written by `python -m benchmarks.external_timing`.",
        "",
        "| regime | none | early | uniform | late | best against worst timing, share of what "
        "training gains | share of what the data gain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, strength, rounds, decay in (
        ("limited data: γ_x = 0.02, 10 rounds", LIMITED, 10, 0.0),
        ("limited data, γ_x decays by exp(−0.3) a round", LIMITED, 10, DECAY),
        ("limited data, 3 rounds", LIMITED, 3, 0.0),
        ("limited data, 30 rounds", LIMITED, 30, 0.0),
        ("more data: γ_x = 0.2, 10 rounds", 0.2, 10, 0.0),
        ("strong data: γ_x = 0.5, 10 rounds", STRONG, 10, 0.0),
        ("strong data, γ_x decays by exp(−0.3) a round", STRONG, 10, DECAY),
        ("strong data, 3 rounds", STRONG, 3, 0.0),
    ):
        result = outcome(strength, rounds, decay)
        finals = " | ".join(f"{float(v):.3f}" for v in (result.none, *result.plans.values()))
        lines.append(f"| {name} | {finals} | {result.of_training:.1%} | {result.of_gain:.0%} |")
    return "\n".join([*lines, ""])


def main() -> None:
    with float64_on_cpu():
        timing_figure().savefig(_ROOT / "docs/images/external-timing.png", dpi=150)
        (_ROOT / "benchmarks/results/external_timing.md").write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main()
