"""The head of a GGUF file, walked through before anything is made of it.

A file says how long its parts are, and a damaged or hostile one may say anything: whoever believes
it takes all of the memory there is. Here every count is held against what is left of the file.

Source: the GGUF specification, versions 2 and 3.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from gapjax.foreign import shown

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of scalars
_STRING, _ARRAY = 8, 9
_LONGEST_NAME = 2**16
_MOST_DIMENSIONS = 4
_MOST_VALUES = 2**48  # of a tensor


class DamagedFile(ValueError):
    """What is wrong with a file, in a few words."""


def check_header(path: Path) -> None:
    """Make sure that the parts of a file's head are within the file, and each is there once.

    **Raises:** `DamagedFile`, and `OSError` if it cannot be read.
    """
    with path.open("rb") as stream:
        if not stream.seek(0, 2):
            raise DamagedFile("it is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _Walk(content).whole()


class _Walk:
    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._size, self._at = content, len(content), 0

    def whole(self) -> None:
        if self._take(4) != b"GGUF":
            raise DamagedFile("it does not begin with GGUF")
        version = self._number(4)
        if version not in (2, 3):
            raise DamagedFile(f"version {version} is neither 2 nor 3, or of the other byte order")
        tensors, fields = self._number(8), self._number(8)
        self._fits(tensors, 24, "tensors")  # a name, a dimension, a type, an offset
        self._fits(fields, 13, "metadata fields")  # a name, a type, a value
        names: set[bytes] = set()
        for _ in range(fields):
            name = self._name(names, "metadata field")
            self._value(self._number(4), name)
        names = set()
        for _ in range(tensors):
            self._tensor(self._name(names, "tensor"))

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > self._size:
            raise DamagedFile("it ends within its head")
        part = self._content[self._at : end]
        self._at = end
        return part

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _fits(self, count: int, least: int, what: str) -> None:
        if count * least > self._size - self._at:
            raise DamagedFile(f"{count} {what} do not fit into it")

    def _name(self, before: set[bytes], what: str) -> str:
        size = self._number(8)
        if size > _LONGEST_NAME:
            raise DamagedFile(f"the name of a {what} has {size} bytes")
        name = self._take(size)
        try:
            text = name.decode()
        except UnicodeDecodeError as error:
            raise DamagedFile(f"the name of a {what} is not UTF-8 text") from error
        if name in before:
            raise DamagedFile(f"the {what} {shown(text, 80)} is there twice")
        before.add(name)
        return text

    def _value(self, kind: int, name: str) -> None:
        if kind == _STRING:
            self._skip(self._number(8), name)
        elif kind == _ARRAY:
            item, count = self._number(4), self._number(8)
            if item == _STRING:
                self._fits(count, 8, f"texts of {shown(name, 80)}")
                for _ in range(count):
                    self._skip(self._number(8), name)
            elif item in _SIZES:
                self._skip(count * _SIZES[item], name)
            else:
                raise DamagedFile(f"{shown(name, 80)} is a list of type {item}")
        elif kind in _SIZES:
            self._skip(_SIZES[kind], name)
        else:
            raise DamagedFile(f"{shown(name, 80)} has the type {kind}")

    def _skip(self, size: int, name: str) -> None:
        if size > self._size - self._at:
            raise DamagedFile(f"{shown(name, 80)} reaches beyond its end")
        self._at += size

    def _tensor(self, name: str) -> None:
        dimensions = self._number(4)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise DamagedFile(f"{shown(name, 80)} has {dimensions} dimensions")
        values = 1
        for _ in range(dimensions):
            values *= self._number(8)
        if not 0 < values <= _MOST_VALUES:
            raise DamagedFile(f"{shown(name, 80)} has {values} values")
        self._number(4)  # the type, which is looked up later
        if self._number(8) > self._size:
            raise DamagedFile(f"{shown(name, 80)} begins beyond its end")
