"""YAML from plain tables, readable where a text has several lines."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, without changing a character of them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(*documents: dict[str, Any], comment: str) -> str:
    """The documents in the order of their keys, below a comment."""
    heading = "".join(f"# {line}\n" for line in comment.splitlines())
    return heading + yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def here_document(text: str, path: str) -> str:
    """Shell commands that write a recipe's YAML to a file, to the letter.

    The shell expands nothing between the quoted marks, and no line of a table in YAML is a
    bare word, so that the text cannot end itself.
    """
    mark = "END_OF_RECIPE"
    if mark in text.splitlines():
        raise AssertionError("a recipe is a table")
    return f"cat > {path} <<'{mark}'\n{text}{mark}"
