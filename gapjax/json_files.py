"""JSON that others wrote: strict, and with one line for whatever is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.paths import Path

_LARGEST = 2**28  # bytes; the longest of tokenizers are a tenth of it
_DEEPEST = 100  # lists and objects within each other


class BadJSON(ValueError):
    """A text is no JSON, or says one thing twice."""


def parse(
    text: str | bytes, *, parse_float: Callable[[str], Any] | None = None, constants: bool = False
) -> Any:
    """The value that a JSON text (RFC 8259) stands for.

    Python's reader takes more: of a key that occurs twice the last, and NaN and infinities,
    which `constants` allows, since Python also writes them.

    **Raises:** `BadJSON`, a few words that say what is wrong.
    """
    try:
        value = json.loads(
            text,
            parse_float=parse_float,
            parse_constant=None if constants else _no_constant,
            object_pairs_hook=_without_repetition,
        )
    except BadJSON:
        raise
    except RecursionError as error:
        raise BadJSON("nested too deeply") from error
    except ValueError as error:
        raise BadJSON(f"not JSON ({error})") from error
    # Pythons differ in how deep they can read; whoever walks through the value can go less deep.
    level = [value]
    for _ in range(_DEEPEST):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return value
    raise BadJSON("nested too deeply")


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise BadJSON(f"field {shown(repr(twice), 80)} occurs twice")
    return found


def read_whole_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, but for a last line that was being written when its writer died.

    **Raises:** `UserError` that names a line which holds no object.
    """
    try:
        *whole, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", where=path) from error
    rows = []
    for number, line in enumerate(whole, start=1):
        try:
            row = parse(line.decode())
        except UnicodeDecodeError as error:
            raise UserError("is not UTF-8 text", where=f"{path}, row {number}") from error
        except BadJSON as error:
            raise UserError(str(error), where=f"{path}, row {number}") from error
        if not isinstance(row, dict):
            raise UserError("is not a JSON object", where=f"{path}, row {number}")
        rows.append(row)
    return rows


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a file.

    **Raises:** `UserError` if it cannot be read, or holds another value.
    """
    try:
        if not path.is_file():  # a device may never end
            raise UserError("is not there, or no file", where=path)
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(f"is larger than {_LARGEST >> 20} MiB", where=path)
        value = parse(content.decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError("not JSON (it is not UTF-8 text)", where=path) from error
    except BadJSON as error:
        raise UserError(str(error), where=path) from error
    if not isinstance(value, dict):
        raise UserError("holds no JSON object", where=path)
    return value
