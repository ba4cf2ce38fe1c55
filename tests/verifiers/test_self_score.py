"""The true/false verifier against the model's plain logits."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from gapjax.errors import UserError
from gapjax.generation import Samples, sample
from gapjax.models import LoadedModel, Transformer
from gapjax.models.prompts import encode_around, encode_prompt
from gapjax.tasks import Problem
from gapjax.verifiers import Likelihood, Quality, TrueFalse
from gapjax.verifiers.self_score import _verdict
from tests.verifiers.asked import a_model, characters

PROBLEMS = (Problem("What is 3 + 4?", "7"), Problem("What is 2 + 2? One word.", "4"))


@pytest.fixture(scope="module")
def samples(smollm2):
    prompts = [encode_prompt(smollm2.tokenizer, problem.prompt) for problem in PROBLEMS]
    return sample(smollm2.model, prompts, key=jax.random.key(0), n=2, max_new_tokens=8, stop=[2])


def test_true_false_is_the_softmax_over_both_words(smollm2, samples) -> None:
    verifier = TrueFalse()
    scores = verifier(smollm2, PROBLEMS, samples)
    assert scores.shape == (2, 2)
    true, false = (smollm2.tokenizer.encode(word)[0] for word in ("True", "False"))
    for p, problem in enumerate(PROBLEMS):
        question = verifier.question.replace("{prompt}", problem.prompt)
        before, after = encode_around(smollm2.tokenizer, *question.split("{answer}"))
        for n in range(2):
            tokens = before + samples.text_tokens(p, n) + after
            text = smollm2.tokenizer.decode(tokens)
            assert problem.prompt in text
            assert text.endswith("<|im_start|>assistant\n")
            logits = np.asarray(smollm2.model(np.array([tokens]))[0, -1], np.float64)
            expected = 1 / (1 + np.exp(logits[false] - logits[true]))
            assert scores[p, n] == pytest.approx(expected, abs=1e-4)


def test_quality_is_the_expected_grade(smollm2, samples) -> None:
    verifier = Quality(question="Q: {prompt} A: {answer}. Grade it, 0 to 2.", grades=tuple("012"))
    sharp = Quality(question=verifier.question, grades=verifier.grades, temperature=0.5)
    scores, sharp_scores = (v(smollm2, PROBLEMS[:1], first(samples)) for v in (verifier, sharp))
    digits = [smollm2.tokenizer.encode(digit)[0] for digit in "012"]
    question = verifier.question.replace("{prompt}", PROBLEMS[0].prompt)
    before, after = encode_around(smollm2.tokenizer, *question.split("{answer}"))
    for n in range(2):
        tokens = before + samples.text_tokens(0, n) + after
        logits = np.asarray(smollm2.model(np.array([tokens]))[0, -1], np.float64)[digits]
        for score, weights in (
            (scores[0, n], np.exp(logits)),
            (sharp_scores[0, n], np.exp(logits / 0.5)),
        ):
            expected = (weights[1] / 2 + weights[2]) / weights.sum()
            assert score == pytest.approx(expected, abs=1e-4)


def first(samples):
    return Samples(*(getattr(samples, f.name)[:1] for f in dataclasses.fields(Samples)))


@pytest.mark.parametrize("question", ["{answer}", "{prompt}", "{prompt} {answer} {answer}"])
def test_questions_need_their_holes(smollm2, samples, question) -> None:
    with pytest.raises(UserError, match=r"verifier\.question"):
        Quality(question=question)(smollm2, PROBLEMS, samples)


def test_likelihood_lets_everything_pass(smollm2, samples) -> None:
    np.testing.assert_array_equal(Likelihood()(smollm2, PROBLEMS, samples), np.ones((2, 2)))


def test_true_false_needs_words(adder, samples) -> None:
    with pytest.raises(UserError, match="no letters to ask"):
        TrueFalse()(adder, PROBLEMS, samples)
    with pytest.raises(UserError, match="needs a tokenizer"):
        TrueFalse()(LoadedModel(adder.model, None), PROBLEMS, samples)


def test_verdicts_that_the_tokenizer_cannot_write() -> None:
    loaded = a_model(characters())
    verifier = Quality(question="{prompt}? {answer}.", grades=("0", "good", "très bien"))
    with pytest.raises(UserError, match="the tokenizer cannot write 'très bien'"):
        verifier.check(loaded)


@pytest.mark.parametrize(
    ("question", "merges", "spelled"),
    [
        ("{prompt}: {answer} 0 to 2?", (), [["▁", "{}"], ["{}"]]),
        ("{prompt}: {answer} 0 to 2?\n", (), [["{}"]]),
        ("{prompt}: {answer} 0 to 2? ", (), [["{}"]]),
        ("{prompt}: {answer}", (), [["▁", "{}"], ["{}"]]),
        ("{prompt}: {answer}.", (("▁", "0"), ("▁", "1"), ("▁", "2")), [["▁{}"], ["{}"]]),
        ("{prompt}: {answer}.", (("▁", "0"),), [["▁", "{}"], ["{}"]]),
    ],
)
def test_grades_of_two_pieces(question, merges, spelled) -> None:
    loaded = a_model(characters(*merges))
    tokenizer, model = loaded.tokenizer, loaded.model
    answers = np.array([[tokenizer.convert_tokens_to_ids(list(text)) for text in ("7a", "9b")]])
    lengths = np.full((1, 2), 2)
    samples = Samples(answers, np.zeros(answers.shape), lengths, np.zeros((1, 2), bool))
    verifier = Quality(question=question, grades=tuple("012"), temperature=0.7)
    verdict = _verdict(verifier, verifier.grades, loaded, [Problem("Q")], samples)
    before, after = encode_around(tokenizer, *question.replace("{prompt}", "Q").split("{answer}"))
    for n in range(2):
        shown = before + samples.text_tokens(0, n) + after
        probabilities = []
        for grade in verifier.grades:
            ways = [[piece.format(grade) for piece in way] for way in spelled]
            if merges == (("▁", "0"),) and grade == "0":
                ways = [["▁0"], ["0"]]
            ids = [tokenizer.convert_tokens_to_ids(way) for way in ways]
            probabilities.append(sum(plain_probability(model, shown, way) for way in ids))
        assert verdict.log_mass[0, n] == pytest.approx(np.log(sum(probabilities)), abs=1e-4)
        weights = np.array(probabilities) ** (1 / 0.7)
        np.testing.assert_allclose(verdict.probabilities[0, n], weights / weights.sum(), rtol=1e-4)


def plain_probability(model: Transformer, before: list[int], after: list[int]) -> float:
    """By the softmax at every position; all texts of one length, which compiles once."""
    tokens = np.zeros((1, 32), np.int32)
    tokens[0, : len(before) + len(after)] = [*before, *after]
    logits = np.asarray(model(tokens)[0], np.float64)
    table = logits - logsumexp(logits, axis=-1, keepdims=True)
    start = len(before) - 1
    return float(np.exp(sum(table[start + i, token] for i, token in enumerate(after))))
