"""Adapters as folders of the PEFT library: `adapter_config.json` and safetensors.

Where a family stores several of our layers as one (Phi-3's q, k and v), the adapters of
the parts are stacked into one of their joint rank, which computes the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flax import nnx

from gapjax.errors import UserError
from gapjax.json_files import read_json_object
from gapjax.models.adapter_keys import ADAPTER_KEYS, scaled_alpha
from gapjax.models.assemble import complaints
from gapjax.models.export import write_json, write_safetensors
from gapjax.models.families import TensorSpec, tensor_table
from gapjax.models.finite import cast
from gapjax.models.hf import SafetensorsFiles
from gapjax.models.load import save
from gapjax.models.lora import LoRALinear, adapters, merge, replace
from gapjax.models.transformer import Transformer
from gapjax.parallel.distributed import is_first, to_host

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


def _layers(model: Transformer) -> dict[str, TensorSpec]:
    """The linear layers as a checkpoint has them, by PEFT's name."""
    return {
        spec.name.removesuffix(".weight"): spec
        for spec in tensor_table(model.config)
        if spec.transpose
    }


def save_adapter(model: Transformer, path: str | Path, *, base: str | None = None) -> None:
    """Write the adapters of a model, and nothing else, so that PEFT loads them.

    In a run of several processes all have to call it, and the first writes.

    **Arguments:**

    - `model`: with adapters (`gapjax.models.lora.attach`).
    - `path`: the folder.
    - `base`: path or hub id of the model that is adapted, for `AutoPeftModel`.

    **Raises:** `ValueError` for a model without adapters.
    """
    found = adapters(model)
    if not found:
        raise ValueError("the model has no adapters")
    modules: dict[Any, Any] = dict(nnx.iter_modules(model))
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for name, spec in _layers(model).items():
        members = [found.get(path[:-1]) for path in spec.paths]
        adapted = [member for member in members if member is not None]
        if not adapted:
            continue
        scale = adapted[0].scale
        a = np.concatenate([to_host(member.a[...]).T for member in adapted])
        rows = [
            np.zeros((modules[path[:-1]].kernel.shape[1], 0), a.dtype)
            if member is None
            else to_host(member.b[...] * (member.scale / scale)).T
            for member, path in zip(members, spec.paths, strict=True)
        ]
        b = rows[0] if len(rows) == 1 else _block_diagonal(rows, a.dtype)
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(b)
        ranks[name] = a.shape[0]
        alphas[name] = adapted[0].alpha if len(adapted) == 1 else scale * a.shape[0]
    if not is_first():
        return
    first = next(iter(ranks))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "r": ranks[first],
        "lora_alpha": alphas[first],
        "rank_pattern": {n: rank for n, rank in ranks.items() if rank != ranks[first]},
        "alpha_pattern": {n: alpha for n, alpha in alphas.items() if alpha != alphas[first]},
        "target_modules": _targets(list(ranks), model.config.num_layers),
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _CONFIG, config)
    partial = folder / f".{_WEIGHTS}.partial"
    write_safetensors(tensors, partial)
    partial.replace(folder / _WEIGHTS)


def _block_diagonal(blocks: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    # SciPy knows no bfloat16, which float32 holds exactly.
    return scipy.linalg.block_diag(*(block.astype(np.float32) for block in blocks)).astype(dtype)


def _targets(names: list[str], num_layers: int) -> list[str]:
    """Names for `target_modules`: short ones where every layer is adapted alike."""
    short = [name.rpartition(".")[2] for name in names]
    if all(short.count(name) == num_layers for name in short):
        return sorted(set(short))
    return names


def load_adapter(model: Transformer, path: str | Path) -> Transformer:
    """A model with the adapters of a PEFT folder; `model` is left as it was.

    **Raises:** `UserError` for missing, corrupt or mismatching files, and for an adapter
    of another kind than plain LoRA on linear layers.
    """
    folder = Path(path)
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"has no {name}", where=folder, hint="expected a PEFT adapter")
    config = read_json_object(folder / _CONFIG)
    ADAPTER_KEYS.check(config, where=folder / _CONFIG)
    source = SafetensorsFiles([folder / _WEIGHTS])
    adapted = nnx.clone(model)
    modules: dict[Any, Any] = dict(nnx.iter_modules(adapted))
    layers = _layers(model)
    named = {
        name.removeprefix(_PREFIX).rpartition(".lora_")[0]: name.rpartition(".lora_")[0]
        for name in source.shapes
    }
    targets = {name: stem for name, stem in named.items() if name in layers}
    expected = {}
    for name, stem in targets.items():
        kernels = [modules[path[:-1]].kernel for path in layers[name].paths]
        rank = (*source.shapes.get(f"{stem}.lora_A.weight", ()), 0)[0]
        expected[f"{stem}.lora_A.weight"] = (rank, kernels[0].shape[0])
        expected[f"{stem}.lora_B.weight"] = (sum(kernel.shape[1] for kernel in kernels), rank)
    if problems := complaints(expected, source.shapes):
        raise UserError(f"adapter does not fit the model: {problems}", where=folder)
    if not targets:
        raise UserError("holds no adapters", where=folder / _WEIGHTS)
    for name, stem in targets.items():
        a, b = (source.read(f"{stem}.lora_{part}.weight") for part in "AB")
        alpha = scaled_alpha(config, name, rank=a.shape[0], where=folder / _CONFIG)
        bases = [modules[path[:-1]] for path in layers[name].paths]
        ends = np.cumsum([base.kernel.shape[1] for base in bases])
        parts = np.split(b, ends[:-1])
        for base, parameter, rows in zip(bases, layers[name].paths, parts, strict=True):
            dtype = base.kernel.dtype
            ab = {
                part: jnp.asarray(cast(value, dtype, f"lora_{part} of {name}", where=folder).T)
                for part, value in (("a", a), ("b", rows))
            }
            replace(adapted, parameter[:-1], LoRALinear(base, **ab, alpha=alpha))
    return adapted


def save_merged(
    model: Transformer, tokenizer: PreTrainedTokenizerFast | None, path: str | Path, **options: Any
) -> None:
    """Write a model with its adapters folded into the weights; `options` as in `save`.

    **Raises:** `UserError` if that changes no weight: an adapter that was never trained,
    or one whose changes are lost in the rounding of a short type.
    """
    found = adapters(model)
    if not any(bool((layer.merged() != layer.kernel[...]).any()) for layer in found.values()):
        dtype = model.embedding[...].dtype
        raise UserError(
            f"merging the adapters changes no weight in {dtype}",
            where=path,
            hint="was the adapter trained? try float32",
        )
    save(merge(model), tokenizer, path, **options)
