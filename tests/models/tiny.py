"""Small random models of every family, ours and transformers', with the same weights."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gapjax.models import Transformer
from gapjax.models.assemble import assemble, stored_shapes
from gapjax.models.families import config_from_hf

GOLDEN = Path(__file__).parent / "golden_logits.npz"

_COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    # The defaults of some families are ids beyond this vocabulary.
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA = _COMMON | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
_MISTRAL = _COMMON | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
_QWEN2 = _COMMON | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
_QWEN3 = _COMMON | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 16}
_PHI3 = _COMMON | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "head_dim": 8}


def _longrope(original: int, pairs: int, **more: Any) -> dict[str, Any]:
    """As the Phi-3 releases write it."""
    scaling = {
        "type": "longrope",
        "short_factor": [1.0 + 0.1 * i for i in range(pairs)],
        "long_factor": [1.5 + 2.0 * i for i in range(pairs)],
    }
    return {"rope_scaling": scaling, "original_max_position_embeddings": original, **more}


# As in the `config.json` of a release: some in the old style (`rope_theta`, `rope_scaling`),
# some in that of transformers 5 (`rope_parameters`).
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA | {"rope_theta": 10_000.0},
    "llama, tied": _LLAMA | {"tie_word_embeddings": True},
    "llama, one head of keys": _LLAMA | {"num_key_value_heads": 1},
    "llama, as many heads of keys": _LLAMA | {"num_key_value_heads": 6},
    "llama, heads wider than the model": _LLAMA | {"head_dim": 16},
    "llama, biases": _LLAMA | {"attention_bias": True},
    "llama, linear rope": _LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama 3 rope": _LLAMA
    | {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "qwen3, yarn": _QWEN3
    | {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "llama, yarn with all options": _LLAMA
    | {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 500.0,
            "factor": 3.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 4,
            "beta_slow": 0.5,
            "truncate": False,
            "mscale": 1.3,
            "mscale_all_dim": 0.4,
        }
    },
    "mistral, window": _MISTRAL | {"sliding_window": 11, "rope_theta": 1_000.0},
    "mistral, no window": _MISTRAL | {"sliding_window": None, "head_dim": 12},
    "qwen2": _QWEN2 | {"sliding_window": 11, "use_sliding_window": False},
    "qwen2, tied": _QWEN2 | {"tie_word_embeddings": True, "rope_theta": 1e6},
    "qwen2, window in the upper layer": _QWEN2
    | {"sliding_window": 11, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": _QWEN3 | {"rope_theta": 1e6},
    "qwen3, tied, biases, window": _QWEN3
    | {
        "tie_word_embeddings": True,
        "attention_bias": True,
        "use_sliding_window": True,
        "sliding_window": 7,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "phi3": _PHI3 | {"sliding_window": None, "rope_scaling": None},
    "phi3, window": _PHI3 | {"sliding_window": 11, "num_key_value_heads": 6},
    "phi3, long factors": _PHI3 | _longrope(24, 4),
    "phi3, short factors": _PHI3 | _longrope(128, 4),
    "phi3, partial rotary, tied": _PHI3
    | _longrope(24, 3, partial_rotary_factor=0.75, tie_word_embeddings=True),
}
# One of each kind, for what need not be tried on all.
FAMILY_EXAMPLES = (
    "llama 3 rope",
    "mistral, window",
    "qwen2, window in the upper layer",
    "qwen3, tied, biases, window",
    "phi3, partial rotary, tied",
)


def config(name: str):
    return config_from_hf(CONFIGS[name], where=name)


class RandomTensors:
    """A checkpoint of random numbers that depend on the tensors' names alone."""

    def __init__(self, name: str) -> None:
        self.shapes = stored_shapes(config(name))

    def read(self, name: str) -> np.ndarray:
        shape = self.shapes[name]
        # `RandomState` is frozen: the same numbers in every version of NumPy.
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        # Norms would else be ones, which hides one that is not applied.
        return (0.6 * noise + name.endswith("norm.weight")).astype(np.float32)


def random_model(name: str) -> Transformer:
    return assemble(config(name), RandomTensors(name), dtype="float32", mesh=None, where=name)


def golden_tokens() -> tuple[np.ndarray, np.ndarray]:
    """Two rows of token ids, the second one left-padded, and their mask."""
    tokens = np.random.RandomState(0).randint(3, 97, (2, 40))
    return tokens, np.arange(40) >= np.array([[0], [9]])


def reference(folder: Path, name: str):
    """A random transformers model, saved to `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    # `for_model` changes what it is given.
    raw = {key: dict(v) if isinstance(v, dict) else v for key, v in CONFIGS[name].items()}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**raw)).eval()
    for parameter_name, parameter in model.named_parameters():
        mean = 1.0 if parameter_name.endswith("norm.weight") else 0.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.6)
    model.save_pretrained(folder)
    return model


def reference_logits(model, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits of each row computed alone and without padding; zero at padding."""
    import torch

    logits = np.zeros((*tokens.shape, model.config.vocab_size), np.float32)
    for row, real, out in zip(tokens, mask, logits, strict=True):
        with torch.no_grad():
            out[real] = model(torch.tensor(row[real][None])).logits[0].float().numpy()
    return logits
