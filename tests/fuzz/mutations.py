"""What goes wrong with files: bytes that changed, and values that somebody else has put there."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

_DEEP = 3000

# In the place of any value of a JSON or YAML file.
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, -(2**31), 2**63, 10**400),
    *(0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "nan", "\x00", "\ud800", "\x1b[31m\r\u202e", "x" * 20_000, "../../x", "/"),
    *(
        "{{ 1/0 }}",
        "{{ messages.x.y }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{",
        "$\\frac$",
    ),
    *(
        "=1+1",
        "1e999",
        "1_000",
        "½",
        "-",
        "٣",
        "<|im_end|>",
        "\\boxed{",
        "<script>alert(1)</script>",
    ),
    *([], {}, [[]], [[1, 2], [3]], [None], ["a", 1], {"a": {"b": []}}, [0] * 5000, {"": ""}),
)

_PIECES = (b"", b"\x00", b"\xff" * 8, b"\x00" * 64, b"\n", b'"', b"{", b"]", b"9" * 400, b"NaN")


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with one to three places overwritten, cut out, repeated or put in."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        # Headers are where readers can be misled.
        at = min(at, draw(st.sampled_from([16, 64, 512, len(data)])))
        end = min(len(data), at + draw(st.sampled_from([1, 1, 4, 8, 100, len(data)])))
        new = draw(
            st.one_of(
                st.sampled_from(_PIECES),
                st.binary(min_size=1, max_size=9),
                st.just(data[at:end] * 2),
                st.integers(0, 63).map(lambda bit: (1 << bit).to_bytes(8, "little")),
            )
        )
        data = data[:at] + new + data[end:]
    return data


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:20])
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        found += _places(each, (*path, key))
    return found


@st.composite
def replaced(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one to three of its parts replaced, left out or joined by another."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(value)
        if not places:
            break
        *outer, key = draw(st.sampled_from(places))
        holder = value
        for step in outer:
            holder = holder[step]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if how == "remove":
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "x", f"{key}s", f"_{key}"]))] = draw(hostile())
        else:
            holder[key] = draw(hostile())
    return value


def hostile() -> st.SearchStrategy[Any]:
    """A value that nobody expects."""
    return st.sampled_from(HOSTILE).map(copy.deepcopy)


@st.composite
def foreign_json(draw: st.DrawFn, value: Any) -> bytes:
    """A JSON document that is damaged in its bytes, in its parts, or is another altogether."""
    kind = draw(st.sampled_from(["parts", "parts", "parts", "bytes", "whole", "deep", "twice"]))
    if kind == "bytes":
        return draw(damaged(json.dumps(value).encode()))
    if kind == "deep":
        return draw(
            st.sampled_from(
                [b"[" * _DEEP, b'{"a":' * _DEEP, b"[" * _DEEP + b"]" * _DEEP, b"\xef\xbb\xbf{}"]
            )
        )
    changed = draw(replaced(value)) if kind == "parts" else draw(hostile())
    if kind == "twice" and isinstance(value, dict) and value:
        # A key that occurs twice: whoever reads only one of them may be told anything.
        name = draw(st.sampled_from(sorted(value)))
        whole = json.dumps(value)
        return (f"{{{json.dumps(name)}: {json.dumps(changed)}, " + whole[1:]).encode()
    return json.dumps(changed).encode("utf-8", errors="surrogatepass")


@st.composite
def foreign_lines(draw: st.DrawFn, rows: list[Any]) -> bytes:
    """JSON lines of which one or two are foreign."""
    lines = [json.dumps(row).encode() for row in rows]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = draw(foreign_json(rows[at]))
    return b"\n".join(lines) + draw(st.sampled_from([b"\n", b"", b"\r\n", b"\x00"]))
