"""What a compiled program passes between devices, read from its HLO text.

XLA prints each instruction on a line, `%name = type[shape] opcode(operands), attributes`, within
computations that others call. The grammar is described at https://openxla.org/xla/operation_semantics
and, for replica groups, in `xla/hlo/ir/collective_device_list.h`.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<opcode>[\w\-]+)\((?P<rest>.*)$"
)
_ARRAY = re.compile(r"\b([a-z]+\d+\w*|pred)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=")
_NAMED = re.compile(r"replica_groups=mesh\[(?P<mesh>[^\]]*)\].*? \{(?P<axes>'[^}]*)\}")
_AXIS = re.compile(r"'(\w+)'(?:=(\d+)|:\(\d+\)(\d+))?")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")


@dataclasses.dataclass(frozen=True, order=True)
class Kind:
    """Collectives that are reported as one."""

    name: str
    group: int  # devices that take part together; 0: all of them


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Of one device, in one execution of the program."""

    count: float
    bytes: float  # that a device receives if the data goes around a ring


def collectives(hlo: str) -> dict[Kind, Traffic]:
    """The collectives of a program, those in loops as often as the loop is known to repeat.

    A TPU's program may have one collective in several fusions, which move parts of it while they
    compute something else: they share a channel, and are counted once.

    A gather of `n` shards brings a device `(n - 1) / n` of the result, a reduce-scatter as much
    of its argument, an all-reduce twice that (arXiv:1802.05799), an all-to-all once, and a
    permutation all of it.

    **Arguments:**

    - `hlo`: the text of an optimised module (`jax.stages.Compiled.as_text`).
    """
    own, calls, entry = _computations(hlo)
    repeats: dict[str, float] = collections.defaultdict(float)

    def visit(name: str, times: float) -> None:
        repeats[name] += times
        for called, trips in calls.get(name, ()):
            visit(called, times * trips)

    visit(entry, 1.0)
    channels: dict[tuple[Kind, str], Traffic] = {}
    for name, times in repeats.items():
        for found in own.get(name, ()):
            key = found.kind, found.channel
            moved = Traffic(times, times * found.bytes)
            channels[key] = max(channels.get(key, moved), moved, key=lambda each: each.bytes)
    total: dict[Kind, Traffic] = {}
    for (kind, _), moved in channels.items():
        before = total.get(kind, Traffic(0.0, 0.0))
        total[kind] = Traffic(before.count + moved.count, before.bytes + moved.bytes)
    return dict(sorted(total.items()))


class _Found(NamedTuple):
    kind: Kind
    channel: str  # of its own, where the program gives none
    bytes: float


def by_name(traffic: Mapping[Kind, Traffic]) -> dict[str, float]:
    """Bytes by the kind of collective, whatever the groups."""
    total: dict[str, float] = {}
    for kind, moved in traffic.items():
        total[kind.name] = total.get(kind.name, 0.0) + moved.bytes
    return total


def _computations(
    hlo: str,
) -> tuple[dict[str, list[_Found]], dict[str, list[tuple[str, int]]], str]:
    """Collectives and calls of each computation, and the name of the first one to run."""
    own: dict[str, list[_Found]] = collections.defaultdict(list)
    calls: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    current = entry = ""
    for line in hlo.splitlines():
        if header := _COMPUTATION.match(line):
            current = header["name"]
            entry = current if header["entry"] else entry
            continue
        instruction = _INSTRUCTION.match(line)
        if instruction is None:
            continue
        opcode, rest = instruction["opcode"], instruction["rest"]
        kind = opcode.removesuffix("-start")
        if kind in _KINDS:
            group = _group(rest)
            size = _received_from(kind, opcode, instruction["type"])
            channel = _CHANNEL.search(rest)
            name = channel[1] if channel else instruction["name"]
            own[current].append(_Found(Kind(kind, group), name, size * _share(kind, group)))
            continue  # what it applies is an addition
        trips = _TRIPS.search(rest)
        for called in _CALLED.findall(rest):
            calls[current].append((called, int(trips[1]) if trips and opcode == "while" else 1))
        for branches in _BRANCHES.findall(rest):
            calls[current] += [(name.strip(" %"), 1) for name in branches.split(",")]
    return own, calls, entry


def _received_from(kind: str, opcode: str, text: str) -> float:
    """Bytes of the result; of an asynchronous one's pair of argument and result the latter."""
    sizes = [_bytes(*array) for array in _ARRAY.findall(text)]
    if not opcode.endswith("-start") or kind == "all-reduce":
        return sum(sizes)
    if kind == "collective-permute":
        return sizes[1] if len(sizes) > 1 else sizes[0]
    data = [size for size in sizes if size > 8]  # not the flags of its progress
    return sum(data[len(data) // 2 :])


def _share(kind: str, group: int) -> float:
    others = (group - 1) / group if group else 1.0
    match kind:
        case "all-reduce":
            return 2 * others
        case "reduce-scatter":  # of the result, which is a shard
            return max(group - 1, 1)
        case "collective-permute":
            return 1.0
    return others


def _group(rest: str) -> int:
    if iota := _IOTA.search(rest):
        return int(iota[2])
    if named := _NAMED.search(rest):
        sizes = {name: int(size) for name, size, _ in _AXIS.findall(named["mesh"])}
        # An axis, or as `'name':(before)size` a part of one.
        return math.prod(int(part or sizes[name]) for name, _, part in _AXIS.findall(named["axes"]))
    if listed := _LISTED.search(rest):
        return len(listed[1].split(","))
    return 0


def _bytes(dtype: str, shape: str) -> float:
    bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
    return bits / 8 * math.prod(int(n) for n in shape.split(",") if n)
