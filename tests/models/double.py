"""The forward pass in NumPy and float64: what both float32 paths are measured against."""

from __future__ import annotations

import numpy as np
from flax import nnx

from gapjax.models import Transformer
from gapjax.models.config import DecoderConfig, LongRopeScaling
from gapjax.models.rope import frequencies

# A change in a weight's last bit moves the largest logits of our random models by about 1e-5 of
# their size, and a forward pass rounds some hundred times. Measured against float64: at most
# 3.7e-5, on processors with SSE 4.2, AVX2 and AVX-512 and in torch alike.
FLOAT32 = 2e-4  # of the largest logit


def double_logits(model: Transformer, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits of each row, computed alone and without its padding; zero at padding."""
    weights = {
        ".".join(map(str, path)): np.asarray(value[...], np.float64)
        for path, value in nnx.to_flat_state(nnx.state(model))
    }
    logits = np.zeros((*tokens.shape, model.config.vocab_size))
    for row, real, out in zip(tokens, mask, logits, strict=True):
        out[real] = _row(model.config, weights, row[real])
    return logits


def _row(config: DecoderConfig, weights: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    scaling, length = config.rope_scaling, len(tokens)
    long = isinstance(scaling, LongRopeScaling) and (
        length > scaling.original_max_position_embeddings
    )
    angles = np.arange(length)[:, None, None] * frequencies(config, long=long).astype(np.float64)
    stretch = getattr(scaling, "attention_factor", 1.0)
    cos, sin = np.cos(angles) * stretch, np.sin(angles) * stretch
    half = angles.shape[-1]
    behind = np.arange(length)[:, None] - np.arange(length)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        rms = np.sqrt((x * x).mean(axis=-1, keepdims=True) + config.norm_eps)
        return x / rms * weights[f"{name}.scale"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.kernel"] + weights.get(f"{name}.bias", 0.0)

    def heads(x: np.ndarray, name: str, normed: bool) -> np.ndarray:
        y = linear(x, name).reshape(length, -1, config.head_dim)
        return norm(y, f"{name}_norm") if normed else y

    def turn(x: np.ndarray) -> np.ndarray:
        one, two, rest = np.split(x, [half, 2 * half], axis=-1)
        return np.concatenate([one * cos - two * sin, two * cos + one * sin, rest], axis=-1)

    x = weights["embedding"][tokens]
    for i in range(config.num_layers):
        seen = behind >= 0
        if i in config.sliding_layers:
            seen &= behind < config.sliding_window
        y, at = norm(x, f"blocks.{i}.attention_norm"), f"blocks.{i}.attention"
        q, k = (turn(heads(y, f"{at}.{name}", config.qk_norm)) for name in "qk")
        groups = config.num_heads // config.num_kv_heads
        k, v = (z.repeat(groups, axis=1) for z in (k, heads(y, f"{at}.v", False)))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(config.head_dim)
        scores = np.where(seen, scores, -np.inf)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        out = np.einsum("hqk,khd->qhd", shares, v).reshape(length, -1)
        x = x + linear(out, f"{at}.o")
        y, at = norm(x, f"blocks.{i}.mlp_norm"), f"blocks.{i}.mlp"
        gate = linear(y, f"{at}.gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(y, f"{at}.up"), f"{at}.down")
    return norm(x, "norm") @ weights.get("unembedding", weights["embedding"]).T
