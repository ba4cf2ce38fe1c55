"""What the rows of a run's files hold, as far as anybody relies on it.

`metrics.jsonl` and the rows of `samples/` may have more; an event of another name is of a later
gapjax. A number that is not finite is written as null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gapjax.errors import UserError
from gapjax.foreign import shown

_ROWS = ConfigDict(extra="allow", strict=True)
_Number = float | None


class _Event(BaseModel):
    model_config = _ROWS
    event: str


class _Measure(_Event):
    """Every other field is a metric."""

    __pydantic_extra__: dict[str, _Number]
    epoch: float
    seconds: dict[str, _Number] | _Number = None
    tokens: int | None = None
    speed: Any = None


class _Select(_Event):
    round: int = Field(ge=0)
    seconds: dict[str, _Number] | _Number = None
    tokens: int | None = None
    cut_off: dict[str, int] = Field(default_factory=dict)


class _Train(_Event):
    epoch: float
    step: int
    loss: _Number
    seconds: _Number = None
    tokens: int | None = None


class _Judge(_Event):
    epoch: float
    cautions: list[str] = Field(default_factory=list)
    limit: dict[str, float] | None = None
    expected_gain: _Number = None


class _Test(_Event):
    before: dict[str, _Number]
    after: dict[str, _Number]


class _Finish(_Event):
    epoch: float
    reason: str


class _Overlong(_Event):
    summary: str


class _Candidate(BaseModel):
    model_config = _ROWS
    text: str
    logprob: float
    length: int = Field(ge=0)
    score: _Number = None
    grade: str | None = None


class _Samples(BaseModel):
    model_config = _ROWS
    prompt: str
    candidates: list[_Candidate] = Field(min_length=1)
    chosen: int = Field(ge=0)


_EVENTS: dict[str, type[_Event]] = {
    "measure": _Measure,
    "select": _Select,
    "train": _Train,
    "judge": _Judge,
    "test": _Test,
    "finish": _Finish,
    "overlong": _Overlong,
}


def check_events(rows: Iterable[Mapping[str, Any]], *, where: object) -> None:
    """Check the rows of `metrics.jsonl`.

    **Raises:** `UserError` that names row and field.
    """
    for number, row in enumerate(rows, start=1):
        _check(_Event, row, where=f"{where}, row {number}")
        if known := _EVENTS.get(row["event"]):
            _check(known, row, where=f"{where}, row {number}")


def check_samples(rows: Sequence[Mapping[str, Any]], *, where: object) -> None:
    """Check the rows of a file of samples.

    **Raises:** `UserError` that names row and field.
    """
    for number, row in enumerate(rows, start=1):
        _check(_Samples, row, where=f"{where}, row {number}")
        if row["chosen"] >= len(row["candidates"]):
            raise UserError("chosen is none of the candidates", where=f"{where}, row {number}")


def _check(schema: type[BaseModel], row: Mapping[str, Any], *, where: str) -> None:
    try:
        schema.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(shown(part, 40) for part in first["loc"])
        raise UserError(f"{field}: {first['msg']}", where=where) from error
