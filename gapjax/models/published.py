"""The shapes of well-known checkpoints, so that one can plan for a model before downloading it.

As in the `config.json` of meta-llama/Llama-3.2-1B, meta-llama/Llama-3.1-8B,
meta-llama/Llama-3.1-70B and microsoft/Phi-4-mini-instruct on the Hugging Face hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gapjax.errors import UserError
from gapjax.json_files import read_json_object
from gapjax.models.config import DecoderConfig
from gapjax.models.families import config_from_hf


def _llama(width: int, inner: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128_256,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            **other.pop("rope", {}),
        },
        "rms_norm_eps": 1e-5,
        **other,
    }


# fmt: off
_PHI_4_MINI_LONG = (
    1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,
    2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845,
    5.351743533, 5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158,
    11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105,
    25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71,
    32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77,
)
# fmt: on

_PUBLISHED: dict[str, dict[str, Any]] = {
    "1b": _llama(2048, 8192, 16, 32, tie_word_embeddings=True, head_dim=64, rope={"factor": 32.0}),
    "8b": _llama(4096, 14_336, 32, 32),
    "70b": _llama(8192, 28_672, 80, 64),
    "phi-4-mini": {
        "architectures": ["Phi3ForCausalLM"],
        "vocab_size": 200_064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "rope_theta": 10_000.0,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0] * len(_PHI_4_MINI_LONG),
            "long_factor": list(_PHI_4_MINI_LONG),
        },
        "rms_norm_eps": 1e-5,
        "sliding_window": 262_144,
        "tie_word_embeddings": True,
    },
}
PUBLISHED = tuple(_PUBLISHED)


def find_config(name_or_path: str) -> DecoderConfig:
    """The configuration of a published model, or of the `config.json` at a path.

    **Arguments:**

    - `name_or_path`: `1b`, `8b`, `70b` (of Llama 3), `phi-4-mini`, a `config.json` or the folder
        that holds one.

    **Raises:** `UserError` if there is neither, or gapjax does not know the architecture.
    """
    if name_or_path in _PUBLISHED:
        return config_from_hf(_PUBLISHED[name_or_path], where=name_or_path)
    path = Path(name_or_path)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"unknown model {name_or_path!r}",
            hint=f"known: {', '.join(PUBLISHED)}, or the path of a config.json",
        )
    return config_from_hf(read_json_object(path), where=path)
