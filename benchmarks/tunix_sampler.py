"""The sampler of google-tunix on the weights of one of our models.

Its requirements (`jax[tpu]`, tensorflow_datasets and more) are not for a CPU. This is enough:

    pip install --no-deps google-tunix==0.1.7 google-metrax clu wrapt tensorboardX sentencepiece \
        perfetto
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from gapjax.models import Transformer

_PADDING = 0  # a token that prompts and answers do not hold: tunix masks it wherever it stands


class _Ids:
    """A tokenizer whose texts are token ids, since tunix samples from texts only."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def bos_id(self) -> int:
        return 0  # none

    def eos_id(self) -> int:
        return -1  # given with each call

    def pad_id(self) -> int:
        return _PADDING


def tunix_model(model: Transformer) -> nnx.Module:
    """Tunix's Qwen2 with the weights of a Llama model, whose biases are zero.

    Tunix's own Llama 3 takes a rotary base of a million whatever its configuration says.
    """
    from tunix.models.qwen2 import model as qwen2

    ours = model.config
    config = qwen2.ModelConfig(
        num_layers=ours.num_layers,
        vocab_size=ours.vocab_size,
        embed_dim=ours.hidden_size,
        hidden_dim=ours.intermediate_size,
        num_heads=ours.num_heads,
        head_dim=ours.head_dim,
        num_kv_heads=ours.num_kv_heads,
        rope_theta=ours.rope_theta,
        norm_eps=ours.norm_eps,
        use_tied_embedding=ours.tie_embeddings,
    )
    theirs = qwen2.Qwen2(config, rngs=nnx.Rngs(0))

    def copy(target: Any, source: Any) -> None:
        target[...] = source[...].reshape(target.shape)

    copy(theirs.embedder.input_embedding, model.embedding)
    copy(theirs.final_norm.w, model.norm.scale)
    for layer, block in zip(theirs.layers, model.blocks, strict=True):
        copy(layer.input_layernorm.w, block.attention_norm.scale)
        copy(layer.post_attention_layernorm.w, block.mlp_norm.scale)
        for name in "qkvo":
            kernel = getattr(block.attention, name).kernel
            copy(getattr(layer.attn, f"{name}_proj").w, kernel)
        for name in ("gate", "up", "down"):
            copy(getattr(layer.mlp, f"{name}_proj").kernel, getattr(block.mlp, name).kernel)
    return theirs


def tunix_sampler(
    model: Transformer, *, prompt_tokens: int, new_tokens: int, stop: Sequence[int]
) -> Callable[..., list[np.ndarray]]:
    """A function of prompts (token ids) and a seed that samples an answer of each prompt.

    It samples from the whole distribution at temperature one, or greedily if asked to;
    answers end before the stop token.
    """
    from tunix.generate.sampler import CacheConfig, Sampler

    config = model.config
    cache = CacheConfig(
        cache_size=prompt_tokens + new_tokens,
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
    )
    sampler = Sampler(tunix_model(model), _Ids(), cache)

    def sample(
        prompts: Sequence[Sequence[int]], *, seed: int = 0, greedy: bool = False
    ) -> list[np.ndarray]:
        whole = {} if greedy else {"temperature": 1.0, "top_p": 1.0}
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            out = sampler(
                [" ".join(map(str, prompt)) for prompt in prompts],
                max_generation_steps=new_tokens,
                max_prompt_length=prompt_tokens,
                eos_tokens=stop,
                seed=jax.random.PRNGKey(seed),
                **whole,
            )
        return [np.asarray(tokens) for tokens in out.tokens]

    return sample
