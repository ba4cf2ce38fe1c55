"""What a configuration says about the context."""

from __future__ import annotations

import pytest

from gapjax.models.export_config import config_to_hf
from gapjax.models.families import config_from_hf
from gapjax.models.published import PUBLISHED, find_config
from tests.models.tiny import CONFIGS

pytestmark = pytest.mark.fast

LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


@pytest.mark.parametrize(
    ("base", "longest", "rope", "context"),
    [
        # As the model card of Qwen2.5 says, and that of Qwen3.
        ("qwen2", 32_768, {"type": "yarn", "factor": 4.0}, 131_072),
        ("qwen2", 32_768, {"type": "yarn", "factor": 4.0, "original": 32_768}, 131_072),
        ("qwen3", 40_960, {"rope_type": "yarn", "factor": 4.0, "original": 32_768}, 131_072),
        # Files that say how far it reaches.
        ("llama", 131_072, {"rope_type": "yarn", "factor": 4.0, "original": 32_768}, 131_072),
        ("llama", 131_072, {**LLAMA3, "factor": 8.0, "original": 8192}, 131_072),
        ("llama", 131_072, {**LLAMA3, "factor": 32.0, "original": 8192}, 131_072),
        ("llama", 8192, {**LLAMA3, "factor": 8.0, "original": 8192}, 65_536),
        ("llama", 8192, {**LLAMA3, "factor": 8.0}, 65_536),
        ("llama", 4096, {"type": "linear", "factor": 2.5}, 10_240),
        ("llama", 4096, {"type": "linear", "factor": 0.5}, 4096),
        ("phi3", 131_072, {**LONG, "original": 4096}, 131_072),
        ("phi3", 4096, {**LONG, "original": 4096, "factor": 32.0}, 131_072),
        ("llama", 4096, None, 4096),
    ],
)
def test_stretched_positions_reach_farther(base, longest, rope, context) -> None:
    rope = None if rope is None else dict(rope)
    if rope and "original" in rope:
        rope["original_max_position_embeddings"] = rope.pop("original")
    raw = {**CONFIGS[base], "max_position_embeddings": longest, "rope_scaling": rope}
    config = config_from_hf(raw, where=base)
    assert config.context == context
    assert config_from_hf(config_to_hf(config, dtype="float32"), where=base).context == context


def test_published_contexts() -> None:
    assert {find_config(name).context for name in PUBLISHED} == {131_072}
