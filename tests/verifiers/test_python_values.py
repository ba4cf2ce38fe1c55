"""What the process of the tests reads from the answer: hostile messages break the link, no more."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.verifiers.python_grader import values
from gapjax.verifiers.python_grader.link import Link, LinkBroken

_TAGS = [
    *("list", "dict", "set", "deque", "defaultdict", "array", "scalar", "shared", "tuple"),
    *("frozenset", "type", "yours", "theirs", "module", "class", "class_of", "error", "object"),
    *("keys", "items", "timezone", "datetime", "bytes", "int", "fractions.Fraction", "slice"),
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_CHILD = _JSON | st.integers(-1, 4).map(lambda index: [index])
_NODE = st.tuples(st.sampled_from(_TAGS), _JSON, st.lists(_CHILD, max_size=4)).map(list)
_NODES = st.lists(_NODE | _NODE.map(lambda node: [*node, "a1"]) | _JSON, max_size=5)


def received(message: bytes) -> object:
    """What a request returns if the other end answers with these bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = Link(ours, "t", packages=False)
        theirs.sendall(struct.pack("!I", len(message)) + message)
        theirs.shutdown(socket.SHUT_WR)
        return link.request("get", "x")


@pytest.mark.fast
@settings(max_examples=500, deadline=None)
@given(st.lists(_CHILD, min_size=1, max_size=2), _NODES, _JSON, _JSON)
def test_hostile_messages(roots, nodes, updates, dropped) -> None:
    message = json.dumps(["return", roots, nodes, updates, dropped, None]).encode()
    with contextlib.suppress(LinkBroken):  # and nothing else
        received(message)


@pytest.mark.fast
@given(st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_message(message: bytes) -> None:
    with pytest.raises(LinkBroken):
        received(message)


@pytest.mark.fast
@pytest.mark.parametrize(
    "nodes",
    [
        [["tuple", None, [[0]]]],
        [["tuple", None, [[1]]], ["frozenset", None, [[0]]]],
        [["type", "subprocess.Popen", []]],
        [["type", "builtins.eval", []]],
        [["module", "gapjax", []]],
        [["error", ["subprocess.Popen", "builtins.int", {}], [None]]],
        [["error", ["unittest.case.SkipTest", "builtins.object", {}], [None]]],
        [["scalar", ["|O", "AAAAAAAAAAA="], []]],
        [["yours", 1, []]],
        [["theirs", 1, []]],
        [["shared", "t1", []]],
        [["set", None, [[1]], "a1"], ["list", None, [], "a2"]],
        [["list", None, [], "a1"], ["list", None, [], "a1"], ["tuple", None, [[0], [1]]]],
    ],
)
def test_what_nobody_may_send(nodes) -> None:
    root = [len(nodes) - 1] if nodes[-1][0] == "tuple" and len(nodes) == 3 else [0]
    with pytest.raises(LinkBroken):
        received(json.dumps(["return", [root], nodes, [], [], None]).encode())


@pytest.mark.fast
@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.complex_numbers(allow_nan=False)
        | st.text(st.characters())
        | st.binary()
        | st.decimals(allow_nan=False)
        | st.fractions()
        | st.datetimes()
        | st.dates()
        | st.times()
        | st.timedeltas()
        | st.uuids(),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
            | st.frozensets(st.integers() | st.text())
            | st.sets(st.integers() | st.binary())
        ),
        max_leaves=12,
    )
)
def test_values_come_back_as_they_are(value) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one, other = Link(ours, "t", packages=False), Link(theirs, "a", packages=False)

        class Echo:
            def __call__(self, given: object) -> object:
                assert given == value
                return given

        other.perform = lambda what, roots: Echo()(roots[0])  # type: ignore[method-assign]
        thread = threading.Thread(target=other.serve_one)
        thread.start()
        back = one.request("echo", value)
        thread.join()
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)
    assert isinstance(back, list | dict | set) <= (back is value)


@pytest.mark.fast
def test_types_are_named_and_nothing_else() -> None:
    assert values.type_of("builtins.int") is int
    with pytest.raises(KeyError):
        values.type_of("os.system")
