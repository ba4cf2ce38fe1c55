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


@pytest.mark.parametrize(
    ("name", "changes", "scaling"),
    [
        ("llama", {"rope_theta": 7.0}, None),
        ("llama, linear rope", {}, {"rope_type": "linear", "factor": 2.5}),
        ("llama 3 rope", {}, {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0}),
        ("qwen3, yarn", {}, {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0}),
        ("phi3, long factors", {}, {"type": "longrope"}),
        ("phi3, partial rotary, tied", {}, {"type": "longrope"}),
        # An attention factor that transformers 4 cannot be told, and refuses.
        ("phi3, long factors", {"attention_factor": 1.5}, {"attention_factor": 1.5}),
    ],
)
def test_positions_are_spelled_as_before_transformers_5_too(name, changes, scaling) -> None:
    raw = dict(CONFIGS[name])
    if "attention_factor" in changes:
        raw["rope_scaling"] = raw["rope_scaling"] | changes
    else:
        raw |= changes
    config = config_from_hf(raw, where=name)
    written = config_to_hf(config, dtype="float32")
    assert written["rope_theta"] == config.rope_theta
    assert config_from_hf(written, where=name) == config
    del written["rope_parameters"]
    assert config_from_hf(written, where=name) == config
    assert written.get("partial_rotary_factor") == raw.get("partial_rotary_factor")
    if scaling is None:
        assert written["rope_scaling"] is None
    else:
        assert scaling.items() <= written["rope_scaling"].items()
        # More than three keys are an error in Phi-3's class.
        longrope = scaling == {"type": "longrope"}
        assert not longrope or len(written["rope_scaling"]) == 3


def test_published_contexts() -> None:
    assert {find_config(name).context for name in PUBLISHED} == {131_072}
