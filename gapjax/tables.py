"""Tables in files: CSV, JSONL and Parquet, read strictly and written in one step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from gapjax import json_files
from gapjax.errors import UserError
from gapjax.paths import Path, PathLike, whole

_READERS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

_LARGEST = 2**29  # bytes; a row of a trajectory has a few hundred
_MOST_CELLS = 10**8  # of a Parquet file, which may repeat one value without end


class TableFile(NamedTuple):
    """What a file holds."""

    frame: pd.DataFrame
    first_row: int  # number that an editor shows for the first row of data
    untyped: bool  # all cells are text (CSV)


def read_table(path: Path) -> TableFile:
    """Read a table, format by the file's ending.

    **Raises:** `UserError`, naming the file and where possible the row, for anything that
    is missing, empty, ragged or not of that format.
    """
    if path.is_dir():
        raise UserError("is a folder, not a trajectory table", where=path)
    kind = _kind_of(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=path) from error
    if len(content) > _LARGEST:
        raise UserError(f"is larger than {_LARGEST >> 20} MiB", where=path)
    if not content:
        raise UserError("is empty", where=path)
    if kind == "parquet":
        return TableFile(_parse_parquet(path, content), first_row=1, untyped=False)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("is not UTF-8 text", where=path) from error
    if kind == "csv":
        return TableFile(_parse_csv(path, text), first_row=2, untyped=True)
    return TableFile(_parse_jsonl(path, text), first_row=1, untyped=False)


def write_table(frame: pd.DataFrame, path: PathLike) -> None:
    """Write `frame` to `path` (format by its ending) in one step.

    The table is written under a temporary name and renamed, so that a reader, or a run
    that was killed, never sees half of it.

    **Raises:** `UserError` if the ending is unknown or the folder cannot be written.
    """
    path = Path(path)
    kind = _kind_of(path)
    try:
        with whole(path, "wb") as stream:
            if kind == "csv":
                stream.write(frame.to_csv(index=False).encode())
            elif kind == "jsonl":
                stream.write(frame.to_json(orient="records", lines=True).encode())
            else:
                frame.to_parquet(stream, index=False)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=path) from error


def _kind_of(path: Path) -> str:
    kind = _READERS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"unknown kind of table {path.suffix!r}",
            where=path,
            hint=f"use one of {', '.join(_READERS)}",
        )
    return kind


def _parse_csv(path: Path, text: str) -> pd.DataFrame:
    # The csv module rather than pandas, which silently shifts or drops surplus cells.
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"is not a CSV table ({error})", where=path) from error
    if not rows or not any(cell.strip() for cell in rows[0]):
        raise UserError("has no header", where=path)
    header = [cell.strip() for cell in rows[0]]
    while rows and not rows[-1]:  # blank lines at the end
        rows.pop()
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UserError(
                f"has {len(row)} cells where the header has {len(header)}",
                where=f"{path}, row {number}",
            )
    return pd.DataFrame(rows[1:], columns=header, dtype=str)


def _parse_jsonl(path: Path, text: str) -> pd.DataFrame:
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.rstrip().split("\n"), start=1):
        try:
            record = json_files.parse(line, constants=True)
        except json_files.BadJSON as error:
            raise UserError(str(error), where=f"{path}, row {number}") from error
        if not isinstance(record, dict):
            raise UserError("is not a JSON object", where=f"{path}, row {number}")
        records.append(record)
    return pd.DataFrame.from_records(_scalars(records, path))


def _scalars(records: Iterable[Mapping[str, Any]], path: Path) -> list[dict[str, Any]]:
    flat = []
    for number, record in enumerate(records, start=1):
        for key, value in record.items():
            if isinstance(value, list | dict):
                raise UserError(
                    "is not a single value", where=f"{path}, row {number}, column {key}"
                )
            if not (_encodable(key) and _encodable(value)):
                raise UserError(
                    "holds half a character (a lone surrogate)",
                    where=f"{path}, row {number}, column {key}",
                )
        flat.append(dict(record))
    return flat


def _encodable(value: object) -> bool:
    """JSON can express what no file in UTF-8 holds."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True


def _parse_parquet(path: Path, content: bytes) -> pd.DataFrame:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        about = pq.read_metadata(io.BytesIO(content))
        if about.num_rows * max(about.num_columns, 1) > _MOST_CELLS:
            raise UserError(
                f"{about.num_rows} rows of {about.num_columns} are too many", where=path
            )
        return pd.read_parquet(io.BytesIO(content)).reset_index(drop=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError("is not a Parquet table", where=path) from error
