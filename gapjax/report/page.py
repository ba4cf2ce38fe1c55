"""The page: sections of sentences, pictures and tables, as one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# A drawing with more bytes than this is stored as pixels instead, so that a long run makes
# no large page.
from gapjax.foreign import shown

_LARGEST_SVG = 250_000
_STYLE: Any = {
    "svg.hashsalt": "gapjax",  # the same run gives the same bytes
    "font.size": 9.5,
    "axes.edgecolor": "0.4",
    "axes.labelcolor": "0.2",
    "xtick.color": "0.3",
    "ytick.color": "0.3",
}

Tone = Literal["plain", "good", "bad", "unsure"]


@dataclass(frozen=True)
class Picture:
    """A drawing as a `data:` address, what it shows in words, and what to see in it."""

    address: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a section comes to, and how to take it."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    - `shows`: one sentence on what is to be seen.
    - `raw`: titles and texts to be shown as they are, folded.
    - `problems`: see `gapjax.report.samples`.
    """

    title: str
    shows: str
    verdicts: tuple[Verdict, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    raw: tuple[tuple[str, str], ...] = ()
    problems: tuple[Any, ...] = ()

    @property
    def anchor(self) -> str:
        """What links to the section."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def draw(
    panel: Callable[[Axes], None],
    alt: str,
    caption: str = "",
) -> Picture:
    """A picture of the pair of axes that `panel` draws on, small enough for a phone."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.9, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        panel(axes)
        return Picture(_address(figure), alt, caption)


def _address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    kind = "svg+xml"
    if buffer.tell() > _LARGEST_SVG:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=170, transparent=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def render(title: str, subtitle: str, cards: Sequence[Any], sections: Sequence[Section]) -> str:
    """The page as HTML; every text is escaped, and `shown`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_finished,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("template.html")
    return template.render(title=title, subtitle=subtitle, cards=cards, sections=sections)


def _finished(value: Any) -> Any:
    return shown(value, len(value), lines=True) if isinstance(value, str) else value
