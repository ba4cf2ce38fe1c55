"""The true/false verifier against the model's plain logits."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.generation import Samples, sample
from gapjax.models import LoadedModel
from gapjax.models.prompts import encode_around, encode_prompt
from gapjax.tasks import Problem
from gapjax.verifiers import Likelihood, Quality, TrueFalse

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
    # The adder's alphabet has neither word: both begin with the same unknown token.
    with pytest.raises(UserError, match="cannot tell True from False"):
        TrueFalse()(adder, PROBLEMS, samples)
    with pytest.raises(UserError, match="needs a tokenizer"):
        TrueFalse()(LoadedModel(adder.model, None), PROBLEMS, samples)
