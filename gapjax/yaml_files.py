"""YAML that others wrote: bounded, and each word read as it looks.

The scalars are those of YAML 1.2's core schema. PyYAML's own are of 1.1, in which `no` is false,
`1:30` is 90, `010` is 8 and `1e-5` is a text. Tags are refused, and so is a key that occurs twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from gapjax.errors import UserError
from gapjax.foreign import hidden, shown
from gapjax.paths import Path

_LARGEST = 2**20  # characters; a recipe has thousands
_DEEPEST = 50  # lists and tables within each other
_MOST = 20_000  # values, with those that aliases repeat
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_LONGEST_NUMBER = 400  # digits; more hold no float
_WORDS = dict.fromkeys(("null", "Null", "NULL", "~", "")) | {
    word: value
    for name, value in (("true", True), ("false", False))
    for word in (name, name.capitalize(), name.upper())
}


class BadYAML(ValueError):
    """A text is no YAML, or not such as gapjax reads."""


def parse(text: str) -> Any:
    """The value that one YAML document stands for; its keys are texts.

    **Raises:** `BadYAML`, a few words that say what is wrong.
    """
    if len(text) > _LARGEST:
        raise BadYAML(f"longer than {_LARGEST >> 20} MiB")
    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a character's number is none
        if isinstance(error, BadYAML):
            raise
        raise BadYAML(f"not YAML ({' '.join(str(error).split())})") from error
    if node is None:
        return None
    _check_size(node)
    return _value(node)


def read_table(path: Path) -> dict[str, Any]:
    """The table in a file.

    **Raises:** `UserError` if it cannot be read, or holds another value.
    """
    try:
        with path.open("rb") as stream:
            value = parse(stream.read(4 * _LARGEST + 1).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot be read ({reason})", where=path) from error
    except BadYAML as error:
        raise UserError(str(error), where=path) from error
    if not isinstance(value, dict):
        raise UserError("is not a table of fields", where=path)
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader of YAML would take for something else than a text."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # What ends a line to YAML 1.1, and is folded to a space unless it is escaped, is hidden too.
    style = None if text.isascii() or not any(map(hidden, text)) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")
)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(rf"^(?:{_INT.pattern})$"), list("-+0123456789")
)


def dump(table: dict[str, Any]) -> str:
    """A table as YAML, in the order of its keys; `parse` reads it back.

    It may be shown to people: characters that are hidden are escaped.
    """
    text = yaml.dump(table, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    if text.isascii():
        return text
    # All of them are between double quotes.
    return "".join(
        f"\\U{ord(each):08X}" if not each.isascii() and hidden(each) else each for each in text
    )


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Before anything is built: the depth of what is written, and tags."""
    depth = documents = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > _DEEPEST:
            raise BadYAML("nested too deeply")
        if documents > 1:
            raise BadYAML("more than one document")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise BadYAML(f"the tag {shown(tag, 80)} is not read, {_at(event.start_mark)}")


def _check_size(node: yaml.Node) -> None:
    """Before anything is repeated: how much there is where aliases stand for what they name."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise BadYAML(f"a value holds itself, {_at(node.start_mark)}")
        if known:
            return known
        sizes[id(node)] = None
        total = sizes[id(node)] = 1 + sum(size(part) for part in _parts(node))
        if total > _MOST:
            raise BadYAML(f"more than {_MOST} values, as aliases repeat them")
        return total

    size(node)


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(part) for part in node.value]
    if isinstance(node, yaml.MappingNode):
        return _table(node)
    assert isinstance(node, yaml.ScalarNode)
    try:
        node.value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadYAML(f"half a character (a lone surrogate), {_at(node.start_mark)}") from error
    return node.value if node.style is not None else _scalar(node)


def _table(node: yaml.MappingNode) -> dict[str, Any]:
    table: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _value(key_node)
        if key == "<<" and key_node.style is None:
            tables = _value(value_node)
            for each in tables if isinstance(tables, list) else [tables]:
                if not isinstance(each, dict):
                    raise BadYAML(f"<< takes tables, {_at(value_node.start_mark)}")
                merged = each | merged  # the first of several holds
            continue
        if not isinstance(key, str):
            raise BadYAML(
                f"the field {shown(repr(key), 80)} is no text, {_at(key_node.start_mark)}"
            )
        if key in table:
            raise BadYAML(f"field {shown(repr(key), 80)} occurs twice, {_at(key_node.start_mark)}")
        table[key] = _value(value_node)
    return merged | table


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if text in _WORDS:
        return _WORDS[text]
    number = _INT.fullmatch(text) or _FLOAT.fullmatch(text)
    if number is None:
        return text
    if len(text) > _LONGEST_NUMBER:
        raise BadYAML(f"a number of {len(text)} digits, {_at(node.start_mark)}")
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if text.lower().endswith((".inf", ".nan")):
        return math.nan if "a" in text.lower() else -math.inf if text[0] == "-" else math.inf
    return float(text)


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}"
