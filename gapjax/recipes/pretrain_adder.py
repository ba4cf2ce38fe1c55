"""Makes the embedded model: a small decoder, taught two-digit addition until it is half right.

    python -m gapjax.recipes.pretrain_adder FOLDER

It is stopped early on purpose: a model that can already add has nothing to improve.
It never sees the problems that `adder.yaml` trains on or measures with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
from flax import nnx
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from gapjax.models import DecoderConfig, LoadedModel, Transformer, save
from gapjax.models.prompts import encode_prompt
from gapjax.selfimprove.candidates import make_candidates
from gapjax.selfimprove.measure import summarise
from gapjax.selfimprove.problems import make_splits, make_verifier
from gapjax.selfimprove.recipe import Recipe, TrainConfig, read_recipe
from gapjax.selfimprove.sft import Dataset, Trainer

_EPOCHS = 8
_TRAIN = TrainConfig(batch_size=256, learning_rate=2e-3, warmup_steps=50, weight_decay=0.01)
_SEED = 0


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, of those that additions are written with."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *"0123456789+="])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>"
    )


def new_model(vocab_size: int) -> Transformer:
    """The untrained decoder: 0.1M parameters."""
    config = DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        max_position=64,
        tie_embeddings=True,
    )
    return Transformer(config, rngs=nnx.Rngs(_SEED))


def pretrain(recipe: Recipe) -> LoadedModel:
    """Train on the answers to all problems that the recipe leaves alone."""
    tokenizer = character_tokenizer()
    problems = make_splits(recipe).rest
    untrained = LoadedModel(new_model(len(tokenizer)), tokenizer)
    end = untrained.ends.terminator()
    dataset = Dataset(
        prompts=[encode_prompt(tokenizer, problem.prompt) for problem in problems],
        answers=[[*tokenizer.encode(str(problem.answer)), end] for problem in problems],
        prompt_width=8,
        answer_width=8,
    )
    trainer = Trainer(untrained.model, _TRAIN)
    state = trainer.init()
    for epoch, key in enumerate(jax.random.split(jax.random.key(_SEED), _EPOCHS)):
        for batch in dataset.batches(_TRAIN.batch_size, key):
            state, metrics = trainer.step(state, batch)
        print(f"epoch {epoch + 1}: loss {float(metrics['loss']):.3f} nats a token", flush=True)
    return LoadedModel(trainer.model(state), tokenizer)


def main() -> None:
    """Pre-train, report the accuracy on unseen problems, save."""
    recipe = read_recipe(Path(__file__).with_name("adder.yaml"))
    loaded = pretrain(recipe)
    key, verifier = jax.random.key(1), make_verifier(recipe)
    probe = make_candidates(loaded, make_splits(recipe).probe, recipe, verifier, key)
    for name, value in summarise(probe.outcomes).items():
        print(f"{name}: {value:.3f}")
    save(loaded.model, loaded.tokenizer, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
