"""A reader of GGUF files that gets through a vocabulary quickly."""

from __future__ import annotations

from typing import Any

from gguf import GGUFReader, GGUFValueType

_LENGTH = 8  # bytes of a count


class FastGGUFReader(GGUFReader):
    """`gguf.GGUFReader` with a shorter way through arrays.

    The original takes several slices of a memory map for each of the 100,000 strings of a
    tokenizer, which costs more than all the weights. If a later version of the package
    does not call this method any more, all that is lost is time.
    """

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        item = GGUFValueType(int.from_bytes(self.data[orig_offs : orig_offs + 4], "little"))
        start = orig_offs + 4 + _LENGTH
        count = int.from_bytes(self.data[orig_offs + 4 : start], "little")
        types = [GGUFValueType.ARRAY, item] if count else [GGUFValueType.ARRAY]
        head = [self.data[orig_offs:start]]
        if item == GGUFValueType.STRING:
            parts = self._strings(start, count)
            size = start - orig_offs + sum(part.nbytes for part in parts)
            return size, head + parts, list(range(2, 2 * count + 2, 2)), types
        if item in self.gguf_scalar_to_np:
            values = self._get(start, self.gguf_scalar_to_np[item], count)
            if values.size != count:
                raise IndexError("an array reaches beyond the end of the file")
            return start - orig_offs + values.nbytes, [*head, values], [1], types
        return super()._get_field_parts(orig_offs, raw_type)

    def _strings(self, offset: int, count: int) -> list[memoryview]:
        """Length and content of each of `count` strings, alternating."""
        view = memoryview(self.data)
        parts = []
        for _ in range(count):
            begin = offset + _LENGTH
            end = begin + int.from_bytes(view[offset:begin], "little")
            if end > view.nbytes:
                raise IndexError("a string reaches beyond the end of the file")
            parts += [view[offset:begin], view[begin:end]]
            offset = end
        return parts
