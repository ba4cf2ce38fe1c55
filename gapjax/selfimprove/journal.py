"""`metrics.jsonl`: a line an event, in strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from gapjax import json_files
from gapjax.paths import Path, is_remote, write_text
from gapjax.run_schema import check_events


class Journal:
    """Appends lines to a file.

    In a bucket, where nothing can be appended, lines wait for the next one that is `settled`, or
    for `flush`. Those that a killed process had not written are of steps after its last
    checkpoint, which are made again.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._remote = path, is_remote(path)
        self._waiting = False
        self._lines: list[str] | None = None  # of a bucket's file, once they are known

    def append(self, row: Mapping[str, Any], *, settled: bool = True) -> None:
        """Write a line; what is not finite becomes null."""
        line = json.dumps(finite(row), allow_nan=False) + "\n"
        if not self._remote:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line)
            return
        if self._lines is None:
            self._lines = [json.dumps(old) + "\n" for old in self.rows()]
        self._lines.append(line)
        self._waiting = True
        if settled:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._waiting:
            write_text(self._path, "".join(self._lines or ()))
            self._waiting = False

    def rows(self) -> list[dict[str, Any]]:
        """The lines, but for one that was being written."""
        if not self._path.exists():
            return []
        rows = json_files.read_whole_lines(self._path)
        check_events(rows, where=self._path)
        return rows

    def rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Have these lines and no others."""
        self._lines = [json.dumps(row) + "\n" for row in rows]
        write_text(self._path, "".join(self._lines))


def finite(value: Any) -> Any:
    """The same with `None` for every number that is not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: finite(each) for name, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
    return value
