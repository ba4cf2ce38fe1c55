"""`write_report`: a run's files to one page."""

from __future__ import annotations

import json
from typing import Any

from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.paths import Path, PathLike, whole
from gapjax.report.audit import audit_section
from gapjax.report.costs import timings_section
from gapjax.report.course import phase_section, trajectory_section
from gapjax.report.foretold import foretold_section
from gapjax.report.headline import cards, headline_section, subtitle
from gapjax.report.judgements import judgements_section
from gapjax.report.outcome import curve_of, outcome_of
from gapjax.report.page import Section, Table, render
from gapjax.report.progress import arms_section, progress_section
from gapjax.report.run_files import RunFiles, read_run
from gapjax.report.samples import samples_section

_LONGEST = 20_000  # characters of a file that is shown as it is


def write_report(run_dir: PathLike, *, seed: int = 0) -> Path:
    """Write `report.html` into the folder of a run, from its files alone.

    The run need not be finished, nor its answers known; what cannot be said is said so. The
    same files give the same page.

    **Arguments:**

    - `run_dir`: what `gapjax train` wrote.
    - `seed`: of the fits that are made for the page.

    **Returns:** the path of the page, which holds all it needs and asks for nothing else.

    **Raises:** `UserError` if the folder holds no run, or cannot be written.
    """
    run_dir = Path(run_dir)
    html = build_page(read_run(run_dir), seed=seed)
    path = run_dir / "report.html"
    try:
        with whole(path, "wb") as stream:
            stream.write(html.encode("utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=path) from error
    return path


def build_page(run: RunFiles, *, seed: int) -> str:
    """The page as HTML."""
    outcome = outcome_of(run, seed=seed)
    sections = [
        headline_section(run, outcome),
        trajectory_section(run, outcome),
        foretold_section(curve_of(run), len(run.trajectory), seed=seed),
        None if outcome is None else phase_section(outcome),
        progress_section(run),
        arms_section(run),
        audit_section(run),
        judgements_section(run),
        samples_section(run),
        timings_section(run),
        _provenance_section(run),
    ]
    present = [section for section in sections if section is not None]
    return render(shown(run.name, 80), subtitle(run), cards(run, outcome), present)


def _provenance_section(run: RunFiles) -> Section:
    """Recipe, versions, the state of the user's repository, and a row a checkpoint."""
    rows = tuple((shown(name), shown(value)) for name, value in _flat(run.versions).items())
    raw = [("Recipe", shown(run.recipe_text, _LONGEST, lines=True))] if run.recipe_text else []
    sheet = run.trajectory.to_csv(index=False, float_format="%.6g")
    raw.append(("Trajectory", shown(sheet, _LONGEST, lines=True)))
    return Section(
        "Recipe and versions",
        "What to repeat: gapjax train with this recipe and these versions gives this run.",
        tables=(Table(("package", "version"), rows),) if rows else (),
        raw=tuple(raw),
    )


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            flat[prefix + str(name)] = value if isinstance(value, str) else json.dumps(value)
    return flat
