"""The trajectory table: what a run measured, one row per checkpoint.

A table has the columns `epoch` (or `step`), `solver_uncertainty` and `verifier_uncertainty` (nats).
Every string column, and `seed`, is a label: each distinct combination of labels is one
curve.  Other numeric columns may be present and are ignored unless chosen by name.
The two wings of gapjax meet here: a training run writes this table, everything
statistical reads it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.tables import read_table
from gapjax.tables import write_table as write

__all__ = [
    "EPOCH",
    "MIN_CHECKPOINTS",
    "SOLVER",
    "VERIFIER",
    "Curve",
    "Source",
    "Trajectories",
    "read",
    "write",
]

MIN_CHECKPOINTS = 4
SOLVER, VERIFIER, EPOCH = "solver_uncertainty", "verifier_uncertainty", "epoch"

# Where times are found, in this order.
_TIMES = (EPOCH, "step", "steps", "global_step", "_step", "iteration")
# Columns with a meaning of their own: never labels, whatever their type.
_MEASUREMENTS = frozenset(
    {
        *_TIMES,
        SOLVER,
        VERIFIER,
        "solver_accuracy",
        "verifier_accuracy",
        "solver_tokens",
        "verifier_tokens",
        "solver_sem",
        "verifier_sem",
        "external_share",
    }
)
# A response of 100 000 tokens at 10 nats each: anything beyond is a mistake of units.
_MAX_UNCERTAINTY = 1e6
_MAX_EPOCH = 1e6
_MAX_STEP = 1e12
_MIN_SPACING = 1e-6
_LONGEST_NAME = 100  # characters

# What neither netCDF nor UTF-8 can hold.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

Source: TypeAlias = "pd.DataFrame | str | os.PathLike[str]"


@dataclass(frozen=True, eq=False)
class Curve:
    """One run: its labels and its measurements, epochs increasing.

    - `labels`: what tells this curve from the others, as text.
    - `epochs`: epochs at which the run was measured, at least four.
    - `solver`, `verifier`: mean uncertainties `U_s` and `U_v` in nats.
    - `time`: what `epochs` are, if they are something else, such as steps.
    """

    labels: Mapping[str, str]
    epochs: NDArray[np.float64]
    solver: NDArray[np.float64]
    verifier: NDArray[np.float64]
    time: str = EPOCH

    @property
    def gap(self) -> NDArray[np.float64]:
        """`G = U_s − U_v` in nats."""
        return self.solver - self.verifier

    @property
    def name(self) -> str:
        """The labels' values in one line, as people may be shown it; `curve` if there are none."""
        whole = " ".join(value for value in self.labels.values() if value)
        return shown(whole, _LONGEST_NAME).strip() or "curve"

    def until(self, epoch: float) -> Curve:
        """The same curve as it was known at `epoch` (inclusive)."""
        keep = self.epochs <= epoch
        return replace(
            self,
            epochs=self.epochs[keep],
            solver=self.solver[keep],
            verifier=self.verifier[keep],
        )


@dataclass(frozen=True, eq=False)
class Trajectories(Sequence[Curve]):
    """One or more curves, in the order of their first appearance."""

    curves: tuple[Curve, ...]

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, index: Any) -> Any:
        return self.curves[index]

    def __iter__(self) -> Iterator[Curve]:
        return iter(self.curves)

    def to_frame(self) -> pd.DataFrame:
        """The tidy table: labels, `epoch`, `solver_uncertainty`, `verifier_uncertainty`."""
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        **dict(curve.labels),
                        curve.time: curve.epochs,
                        SOLVER: curve.solver,
                        VERIFIER: curve.verifier,
                    }
                )
                for curve in self.curves
            ],
            ignore_index=True,
        )


def read(
    source: Trajectories | Source | Sequence[Source],
    *,
    solver_column: str = SOLVER,
    verifier_column: str = VERIFIER,
    group_by: Sequence[str] | None = None,
) -> Trajectories:
    """Read, check and split a trajectory table.

    **Arguments:**

    - `source`: a data frame, a path (`.csv`, `.jsonl`, `.parquet`), or several of either.
      Curves of different files that carry the same labels are told apart by a label `file`.
    - `solver_column`, `verifier_column`: the columns that hold `U_s` and `U_v`.
    - `group_by`: the label columns; default every string column and `seed`.

    **Raises:** `UserError`, naming file, row and column, for anything that is not such a
    table.  Rows are counted as an editor does: the header of a CSV file is row 1.
    """
    if isinstance(source, Trajectories):
        return source
    sources = [source] if isinstance(source, pd.DataFrame | str | os.PathLike) else list(source)
    if not sources:
        raise UserError("no trajectory table given")
    curves: list[tuple[str, Curve]] = []
    for number, item in enumerate(sources, start=1):
        table = _load(item, number if len(sources) > 1 else None)
        if any(name == table.name for name, _ in curves):
            raise UserError("is given twice", where=table.name)
        curves += [
            (table.name, curve) for curve in table.curves(solver_column, verifier_column, group_by)
        ]
    seen = Counter(_key(curve) for _, curve in curves)
    return Trajectories(
        tuple(
            replace(curve, labels={"file": name, **curve.labels})
            if seen[_key(curve)] > 1
            else curve
            for name, curve in curves
        )
    )


def _key(curve: Curve) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(curve.labels.items()))


@dataclass(frozen=True)
class _Table:
    """A loaded table that still knows how to name its rows in a complaint."""

    name: str
    frame: pd.DataFrame
    first_row: int  # number that an editor shows for the first row of data
    untyped: bool = False  # all cells are text (CSV)

    def error(self, what: str, *, row: int | None = None, column: str | None = None) -> UserError:
        where = self.name
        if row is not None:
            where += f", row {row + self.first_row}"
        if column is not None:
            where += f", column {column}"
        return UserError(what, where=where)

    def curves(
        self, solver_column: str, verifier_column: str, group_by: Sequence[str] | None
    ) -> list[Curve]:
        repeated = [str(c) for c, n in Counter(self.frame.columns).items() if n > 1]
        if repeated:
            raise self.error("appears more than once in the header", column=repeated[0])
        time = self._time()
        columns = (time, solver_column, verifier_column)
        for column in (*columns, *(group_by or ())):
            if column not in self.frame.columns:
                present = ", ".join(str(c) for c in self.frame.columns[:30])
                raise self.error(f"there is no column {column!r}; columns are: {present}")
        if self.frame.empty:
            raise self.error("has no rows")
        epoch, solver, verifier = (self._numbers(column) for column in columns)
        self._check_range(time, epoch, _MAX_EPOCH if time == EPOCH else _MAX_STEP)
        self._check_range(solver_column, solver, _MAX_UNCERTAINTY)
        self._check_range(verifier_column, verifier, _MAX_UNCERTAINTY)
        labels = self._labels(columns, group_by)
        rows_of: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(
            zip(*labels.values(), strict=True) if labels else [()] * len(epoch)
        ):
            rows_of.setdefault(key, []).append(row)
        curves = []
        for key, rows in rows_of.items():
            curve = Curve(
                dict(zip(labels, key, strict=True)),
                epoch[rows],
                solver[rows],
                verifier[rows],
                time,
            )
            self._check_curve(curve, rows)
            curves.append(curve)
        return curves

    def _time(self) -> str:
        """The column that says when."""
        return next((name for name in _TIMES if name in self.frame.columns), EPOCH)

    def _numbers(self, column: str) -> NDArray[np.float64]:
        raw = self.frame[column]
        flags = np.array([isinstance(value, bool | np.bool_) for value in raw])
        if flags.any():
            row = int(np.argmax(flags))
            raise self.error("holds true/false, not numbers", row=row, column=column)
        values = _as_numbers(raw)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            row = int(bad[0])
            text = "" if pd.isna(raw.iloc[row]) else str(raw.iloc[row]).strip()
            what = f"{text[:40]!r} is not a finite number" if text else "the value is missing"
            raise self.error(what, row=row, column=column)
        return values

    def _check_range(self, column: str, values: NDArray[np.float64], largest: float) -> None:
        for what, wrong in (
            ("is negative", values < 0),
            (f"is larger than {largest:g}: wrong unit?", values > largest),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise self.error(f"{values[row]:g} {what}", row=row, column=column)

    def _labels(
        self, numeric: Sequence[str], group_by: Sequence[str] | None
    ) -> dict[str, list[str]]:
        if group_by is None:
            chosen = [
                column
                for column in self.frame.columns
                if column == "seed"
                or (
                    column not in _MEASUREMENTS
                    and column not in numeric
                    and _holds_text(self.frame[column], self.untyped)
                )
            ]
        else:
            chosen = list(dict.fromkeys(group_by))
        labels = {str(column): [_as_text(v) for v in self.frame[column]] for column in chosen}
        for column, values in labels.items():
            for row, value in enumerate(values):
                if unwritable := _UNWRITABLE.search(column) or _UNWRITABLE.search(value):
                    what = "a NUL" if unwritable[0] == "\0" else "half a character (a surrogate)"
                    raise self.error(
                        f"{what} in a label, which no file can hold", row=row, column=column
                    )
        return labels

    def _check_curve(self, curve: Curve, rows: Sequence[int]) -> None:
        steps = np.diff(curve.epochs)
        wrong = np.flatnonzero(steps < _MIN_SPACING)
        if wrong.size:
            i = int(wrong[0])
            before, here = curve.epochs[i], curve.epochs[i + 1]
            what = (
                f"{curve.time} {here:g} comes after {curve.time} {before:g}"
                if here < before
                else f"{curve.time} {here:g} appears twice"
            )
            raise self.error(
                f"{what} in the same curve ({curve.name})", row=rows[i + 1], column=curve.time
            )
        if len(rows) < MIN_CHECKPOINTS:
            hint = f"; curves are told apart by {', '.join(curve.labels)}" if curve.labels else ""
            raise self.error(
                f"curve {curve.name!r} has {len(rows)} checkpoints, "
                f"{MIN_CHECKPOINTS} are needed{hint}",
                row=rows[0],
            )
        if not curve.solver.max() > 0:
            raise self.error(f"the solver uncertainty of {curve.name!r} is zero throughout")


def _holds_text(column: pd.Series, untyped: bool) -> bool:
    """Whether a column is a label: text, and in an untyped table not simply numbers."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return False
    # A blank is a missing number, not a label.
    given = column[column.notna() & (column.astype(str).str.strip() != "")]
    if not untyped:
        return any(isinstance(value, str) for value in given)
    return bool(len(given)) and bool(pd.to_numeric(given, errors="coerce").isna().any())


def _as_numbers(column: pd.Series) -> NDArray[np.float64]:
    """NaN for what is no number, infinity for what is beyond floats."""
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except (OverflowError, TypeError):  # integers of any length; lists
        return np.array([_as_number(value) for value in column])
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return np.nan


def _as_text(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _load(source: Source, number: int | None) -> _Table:
    if isinstance(source, pd.DataFrame):
        name = "data frame" if number is None else f"data frame {number}"
        return _Table(name, source.reset_index(drop=True), first_row=0)
    path = Path(source)
    return _Table(str(path), *read_table(path))
