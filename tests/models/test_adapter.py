"""PEFT folders: PEFT agrees with us, both ways; what does not fit is refused."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from gapjax import models
from gapjax.errors import UserError
from gapjax.models.adapter import load_adapter, save_adapter, save_merged
from gapjax.models.adapter_keys import ADAPTER_KEYS
from gapjax.models.lora import attach, merge
from tests.models.double import FLOAT32
from tests.models.tiny import FAMILY_EXAMPLES, random_model

TOKENS = np.random.default_rng(0).integers(3, 97, (2, 30))


def trained(model, targets: str = "attention|mlp", rank: int = 3):
    """A model with adapters that do something."""
    adapted = attach(model, rank=rank, alpha=5.0, targets=targets, key=jax.random.key(0))
    noise = np.random.default_rng(1)
    state = nnx.state(adapted, nnx.LoRAParam)
    nnx.update(adapted, jax.tree.map(lambda x: x + 0.05 * noise.normal(size=x.shape), state))
    return adapted


@pytest.mark.parametrize("name", FAMILY_EXAMPLES)
def test_peft_loads_an_adapter_and_agrees(name: str, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = random_model(name)
    models.save(base, None, tmp_path / "base")
    everywhere = trained(base)
    # Some layers only, and a part of what Phi-3 fuses.
    in_places = trained(base, targets=r"blocks\.1\.(attention\.(k|o)|mlp\.up)$", rank=2)
    for adapted, folder in ((everywhere, tmp_path / "all"), (in_places, tmp_path / "some")):
        save_adapter(adapted, folder)
        assert {path.name for path in folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        theirs = peft.PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(tmp_path / "base"), folder
        )
        with torch.no_grad():
            expected = theirs(torch.tensor(TOKENS)).logits.numpy()
        ours = np.asarray(adapted(TOKENS))
        assert np.abs(ours - np.asarray(base(TOKENS))).max() > 0.1
        room = 2 * FLOAT32 * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=room)
        np.testing.assert_allclose(load_adapter(base, folder)(TOKENS), ours, rtol=0, atol=room)


def test_an_adapter_that_peft_wrote(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    for name, targets in (("llama", ["q_proj", "down_proj"]), ("phi3", ["qkv_proj"])):
        base = random_model(name)
        models.save(base, None, tmp_path / name)
        config = peft.LoraConfig(
            r=3,
            lora_alpha=7,
            target_modules=targets,
            rank_pattern={"layers.1.self_attn.q_proj": 5},
            alpha_pattern={"layers.1.self_attn.q_proj": 2},
            use_rslora=name == "phi3",
            init_lora_weights=False,
        )
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        theirs = peft.get_peft_model(theirs, config)
        theirs.save_pretrained(tmp_path / "adapter")
        with torch.no_grad():
            expected = theirs.eval()(torch.tensor(TOKENS)).logits.numpy()
        ours = load_adapter(base, tmp_path / "adapter")
        assert np.abs(expected - np.asarray(base(TOKENS))).max() > 0.1
        room = 2 * FLOAT32 * np.abs(expected).max()
        np.testing.assert_allclose(ours(TOKENS), expected, rtol=0, atol=room)


@pytest.mark.fast
def test_round_trip_is_exact(adder, tmp_path) -> None:
    adapted = trained(adder.model)
    save_adapter(adapted, tmp_path)
    again = load_adapter(adder.model, tmp_path)
    assert nnx.split(again)[0] == nnx.split(adapted)[0]
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(adapted))


def test_merged_export(adder, tmp_path) -> None:
    adapted = trained(adder.model)
    save_merged(adapted, adder.tokenizer, tmp_path / "merged")
    tokens = np.arange(12)[None]
    again = models.load(tmp_path / "merged").model
    np.testing.assert_array_equal(again(tokens), merge(adapted)(tokens))
    untrained = attach(adder.model, rank=2, alpha=1.0, targets=".", key=jax.random.key(0))
    with pytest.raises(UserError, match="changes no weight"):
        save_merged(untrained, None, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ValueError, match="has adapters"):
        models.save(adapted, None, tmp_path / "nothing")
    with pytest.raises(ValueError, match="no adapters"):
        save_adapter(adder.model, tmp_path / "nothing")


def test_adapters_that_do_not_fit(adder, tmp_path) -> None:
    save_adapter(trained(adder.model), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "adapter_model.safetensors")

    def refusal() -> str:
        with pytest.raises(UserError) as caught:
            load_adapter(adder.model, tmp_path)
        assert str(tmp_path) in str(caught.value)
        return str(caught.value)

    for change in (
        *({"peft_type": "IA3"}, {"use_dora": True}, {"bias": "all"}, {"lora_bias": True}),
        *({"init_lora_weights": each} for each in ("pissa", "pissa_niter_4", "olora", "loftq")),
        *({"init_lora_weights": "corda"}, {"alora_invocation_tokens": [3, 4]}),
        *({"modules_to_save": ["lm_head"]}, {"layer_replication": [[0, 2]]}, {"new": 1}),
        *({"trainable_token_indices": [3]}, {"lora_alpha": float("1e999")}, {"lora_alpha": -1}),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
        assert f"{next(iter(change))} = " in refusal() or "Infinity is no JSON" in refusal()
    for change, complaint in (
        ({"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
        ({"use_dora": True}, "merge_and_unload"),
        ({"r": 5}, "has rank 5 here and 3 in the weights"),
        ({"rank_pattern": {"q_proj": 7}}, "has rank 7 here"),
        ({"alpha_pattern": {"(a+)+": 7}}, "is no name of layers"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern.q_proj: lora_alpha = 'x'"),
        ({"alpha_pattern": ["q_proj"]}, "is not a table"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
        assert complaint in refusal()
    del config["lora_alpha"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert "lora_alpha" in refusal()
    stem = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    spoilt = tensors | {f"{stem}A.weight": np.zeros((3, 5), np.float32), "other": np.zeros(1)}
    del spoilt[f"{stem}B.weight"]
    save_file(spoilt, tmp_path / "adapter_model.safetensors")
    message = refusal()
    for part in ("1 missing", "1 unexpected (other)", "1 mis-shaped"):
        assert part in message
    save_file({}, tmp_path / "adapter_model.safetensors")
    assert "no adapters" in refusal()
    (tmp_path / "adapter_model.safetensors").unlink()
    assert "expected a PEFT adapter" in refusal()


def test_what_peft_writes_is_known(tmp_path) -> None:
    """Every field of PEFT's configuration is on a list, and plain LoRA of its making loads."""
    peft = pytest.importorskip("peft")
    written = peft.LoraConfig(target_modules=["q_proj"]).to_dict()
    ADAPTER_KEYS.check(written, where="peft")
    keys = ADAPTER_KEYS
    assert set(written) <= {*keys.honoured, *keys.harmless, *keys.neutral}


def test_weights_of_an_adapter_that_are_no_numbers(adder, tmp_path) -> None:
    save_adapter(trained(adder.model), tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name, value = next(iter(tensors.items()))
    save_file(tensors | {name: np.full_like(value, np.nan)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="values are NaN or infinite"):
        load_adapter(adder.model, tmp_path)
