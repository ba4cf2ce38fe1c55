"""Stop texts, against a slow search in the text after every token."""

from __future__ import annotations

import dataclasses

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.errors import UserError
from gapjax.generation import sample, sampler, score, stops_of
from gapjax.generation.automaton import ENDED, START, Automaton
from gapjax.generation.stops import StopTexts, _stop_texts
from gapjax.models import LoadedModel
from gapjax.models.token_bytes import token_bytes
from tests.models.tokenizers_of import DECODERS, EOS, with_tokens

# Fourteen tokens, as the embedded model has: parts of characters ("é" is Ã and ©), tokens that
# contain each other, and two that are no text.
BYTE_LEVEL = [
    *(EOS, "a", "b", "ab", "ba", "Ã", "©", "Ã©", "Ċ", "aĊ", "ĊĊb", "<special ab>", "Ġ", "Ġa")
]
SENTENCEPIECE = [
    *(EOS, "a", "b", "▁a", "▁", "<0xC3>", "<0xA9>", "é", "<0x0A>", "ab", "▁b"),
    *("<special x>", "a▁b", "ba"),
]
TOKENIZERS = {
    "byte level": (DECODERS["byte level"], BYTE_LEVEL),
    "sentencepiece": (DECODERS["sentencepiece"], SENTENCEPIECE),
}
STOPS = [
    "ab",
    "a",
    "aab",
    "bab",
    "\n",
    "\n\n",
    "é",
    "bé",
    "éa",
    " a",
    "b a",
    "abab",
    "a\nb",
    "\nba",
]


def slow_end(pieces: list[bytes], stops: list[bytes]) -> tuple[int, int] | None:
    """Tokens until a stop text is complete, and the bytes before it: by searching every time."""
    said = b""
    for count, piece in enumerate(pieces, start=1):
        for byte in piece:
            said += bytes([byte])
            if found := [stop for stop in stops if said.endswith(stop)]:
                return count, len(said) - max(map(len, found))
    return None


def walk(texts: StopTexts, tokens: list[int]) -> int | None:
    """Tokens until the table says that a stop text is complete."""
    state = START
    for count, token in enumerate(tokens, start=1):
        state = int(texts.table.moves[texts.table.classes[token], state])
        if state == ENDED:
            return count
    return None


@pytest.mark.fast
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(TOKENIZERS)),
    st.lists(st.sampled_from(STOPS), min_size=1, max_size=4),
    st.lists(st.integers(0, 13), min_size=1, max_size=20),
)
def test_against_a_slow_search(made, name, stops, tokens) -> None:
    tokenizer, pieces = made[name]
    texts = _stop_texts(tokenizer, len(tokenizer), 14, tuple(dict.fromkeys(stops)))
    each = pieces.of(tokens)
    expected = slow_end(each, [stop.encode() for stop in stops])
    assert walk(texts, tokens) == (expected and expected[0])
    if expected is None:
        return
    count, size = expected
    whole, rest = texts.cut(tokens[:count])
    assert len(b"".join(each[:whole])) <= size
    # Other tokens spell what comes before it within its token.
    assert b"".join(pieces.of(tokens[:whole] + rest)) == b"".join(each)[:size]
    # As a reader would look for it, where no character is cut in two.
    said = tokenizer.decode(tokens[:count], skip_special_tokens=True)
    if "�" not in said:
        before = tokenizer.decode(tokens[: count - 1], skip_special_tokens=True)
        assert any(stop in said for stop in stops)
        assert not any(stop in before for stop in stops)
        text = tokenizer.decode(tokens[:whole] + rest, skip_special_tokens=True)
        assert said.startswith(text)
        assert any(said[len(text) :].startswith(stop) for stop in stops)


@pytest.fixture(scope="module")
def made():
    return {
        name: (tokenizer := with_tokens(*how), token_bytes(tokenizer, 14))
        for name, how in TOKENIZERS.items()
    }


@pytest.mark.fast
def test_first_match_is_the_first_to_be_complete_and_the_longest_of_those() -> None:
    automaton = Automaton.of([b"abc", b"b", b"xabc", b"bcd"])
    assert automaton.first_match(b"zabc") == (2, 3)
    automaton = Automaton.of([b"c", b"abc", b"bc"])
    assert automaton.first_match(b"zabc") == (1, 4)
    assert automaton.first_match(b"zab") is None
    # What looks like a beginning may be the end of another beginning.
    assert Automaton.of([b"aab"]).first_match(b"aaab") == (1, 4)


def test_what_no_tokens_spell_is_left_out(adder) -> None:
    loaded = LoadedModel(adder.model, with_tokens(None, [EOS, "a", "xyb", "x"]))
    texts = stops_of(loaded, ["b"]).texts
    assert texts.cut([1, 2]) == (1, [])  # there is no "y"
    assert stops_of(loaded, ["yb"]).texts.cut([2]) == (0, [3])


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("stops", [["ab"], ["aab", "\n\n"], ["bé", " a", "ba"]], ids=str)
def test_sampling_stops_where_the_text_is_found(adder, made, name, stops) -> None:
    """The same random numbers without stop texts, searched afterwards."""
    tokenizer, pieces = made[name]
    loaded = LoadedModel(adder.model, tokenizer)
    prompts = [[3, 4], [5], [6, 7, 8]]
    # So many answers that those that go on move to smaller batches.
    options = {"key": jax.random.key(0), "n": 64, "max_new_tokens": 24, "temperature": 4.0}
    free = sample(adder.model, prompts, stop=loaded.ends.tokens, **options)
    stopped = sample(adder.model, prompts, stop=stops_of(loaded, stops), **options)
    encoded = [stop.encode() for stop in stops]
    by_text = 0
    for p in range(3):
        for n in range(64):
            answer = free.answer(p, n)
            found = slow_end(pieces.of(answer), encoded)
            expected = answer if found is None else answer[: found[0]]
            # `<special ab>` ends it as a token.
            contains = name == "byte level" and any(stop in "<special ab>" for stop in stops)
            special = [i for i, token in enumerate(expected) if token == 11 and contains]
            if special:
                expected, found = expected[: special[0] + 1], None
            assert stopped.answer(p, n) == expected
            ended = found is not None or expected[-1] == 0 or bool(special)
            assert stopped.finished[p, n] == ended
            np.testing.assert_allclose(
                stopped.logprobs[p, n, : len(expected)],
                free.logprobs[p, n, : len(expected)],
                atol=1e-4,
            )
            text = b"".join(pieces.of(stopped.text_tokens(p, n)))
            if found is not None:
                by_text += 1
                assert text == b"".join(pieces.of(answer))[: found[1]]
            else:
                assert stopped.text_tokens(p, n) == expected[: -1 if ended else None]
    assert by_text > 50
    for p, rows in enumerate(score(adder.model, prompts, stopped.answers())):
        for n, row in enumerate(rows):
            np.testing.assert_allclose(stopped.logprobs[p, n, : len(row)], row, atol=3e-4)


def test_smollm2_stops_at_texts_of_several_tokens(smollm2) -> None:
    tokenizer = smollm2.tokenizer
    for text in ("Question:", "</answer>", "User:", "\n\n", "naïve 数"):
        made = stops_of(smollm2, [text]).texts
        for said in (f"seven. {text} and more", f"{text}", f"7{text}"):
            tokens = tokenizer.encode(said, add_special_tokens=False)
            count = walk(made, tokens)
            assert text in tokenizer.decode(tokens[:count])
            assert text not in tokenizer.decode(tokens[: count - 1])
            whole, rest = made.cut(tokens[:count])
            assert tokenizer.decode(tokens[:whole] + rest) == said[: said.index(text)]
    # A line break is a part of many tokens. The table stays small.
    made = stops_of(smollm2, ["\n"]).texts
    assert walk(made, tokenizer.encode("a\n\nb", add_special_tokens=False)) == 2
    assert walk(made, tokenizer.encode("number", add_special_tokens=False)) is None
    assert made.table.moves.size <= 64 * 16


def test_other_texts_compile_nothing(adder, made, monkeypatch) -> None:
    traced = chex.assert_max_traces(sampler._sample.__wrapped__, n=1)
    chex.clear_trace_counter()
    monkeypatch.setattr(sampler, "_sample", jax.jit(traced, static_argnums=(0, 1, 2, 3)))
    loaded = LoadedModel(adder.model, made["byte level"][0])
    for stops in (["bab"], ["aab", "\n\n"], ["é"]):
        options = {"key": jax.random.key(0), "n": 2, "max_new_tokens": 3}
        sample(adder.model, [[3]], stop=stops_of(loaded, stops), **options)


def test_stop_strings_of_the_generation_config(adder, made) -> None:
    loaded = LoadedModel(adder.model, made["byte level"][0])
    for stated in ("ab", ["ab"]):
        told = dataclasses.replace(loaded, generation_config={"stop_strings": stated})
        assert walk(stops_of(told).texts, [1, 2]) == 2
    for stated in (5, [5], {"a": 1}):
        told = dataclasses.replace(loaded, generation_config={"stop_strings": stated})
        with pytest.raises(UserError, match=r"stop_strings = .* neither a text nor a list"):
            stops_of(told)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ([""], "a stop text is empty"),
        (["a" * 513], "513 bytes in all, of which 513 are 'aaaa.*more than 512"),
        (["ab" * 100, "cd" * 100, "é" * 60], "520 bytes in all, of which 200 are"),
        (["\ud800"], r"sampling\.stop: .* is no text"),
    ],
    ids=["empty", "long", "many", "surrogate"],
)
def test_texts_that_cannot_be_looked_for(adder, texts, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        stops_of(adder, texts)
    with pytest.raises(UserError, match="need a tokenizer"):
        stops_of(LoadedModel(adder.model, None), ["a"])
