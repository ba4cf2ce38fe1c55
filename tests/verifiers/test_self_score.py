"""The true/false verifier against the model's plain logits."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.generation import sample
from gapjax.models import LoadedModel
from gapjax.models.prompts import encode_around, encode_prompt
from gapjax.tasks import Problem
from gapjax.verifiers import Likelihood, TrueFalse

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
        question = verifier.before.replace("{prompt}", problem.prompt)
        before, after = encode_around(smollm2.tokenizer, question, verifier.after)
        for n in range(2):
            tokens = before + samples.text_tokens(p, n) + after
            text = smollm2.tokenizer.decode(tokens)
            assert problem.prompt in text
            assert text.endswith("<|im_start|>assistant\n")
            logits = np.asarray(smollm2.model(np.array([tokens]))[0, -1], np.float64)
            expected = 1 / (1 + np.exp(logits[false] - logits[true]))
            assert scores[p, n] == pytest.approx(expected, abs=1e-4)


def test_likelihood_lets_everything_pass(smollm2, samples) -> None:
    np.testing.assert_array_equal(Likelihood()(smollm2, PROBLEMS, samples), np.ones((2, 2)))


def test_true_false_needs_words(adder, samples) -> None:
    # The adder's alphabet has neither word: both begin with the same unknown token.
    with pytest.raises(UserError, match="cannot tell True from False"):
        TrueFalse()(adder, PROBLEMS, samples)
    with pytest.raises(UserError, match="tokenizer"):
        TrueFalse()(LoadedModel(adder.model, None), PROBLEMS, samples)
