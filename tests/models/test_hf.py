"""Hugging Face folders: exact round trips, and one clear line for bad ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from gapjax import models
from gapjax.errors import UserError
from tests.models.double import FLOAT32
from tests.models.tiny import CONFIGS, random_model, reference


@pytest.fixture
def folder(adder, tmp_path) -> Path:
    models.save(adder.model, adder.tokenizer, tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def edit_tensors(folder: Path, edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        models.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.fast
def test_round_trip_is_exact(adder, folder) -> None:
    again = models.load(folder)
    assert again.config == adder.config
    tokens = np.arange(12)[None]
    np.testing.assert_array_equal(again.model(tokens), adder.model(tokens))
    assert again.tokenizer.encode("12+34=46") == adder.tokenizer.encode("12+34=46")
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_loads_the_export(name: str, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    theirs = reference(tmp_path / "theirs", name)
    loaded = models.load(tmp_path / "theirs")
    models.save(loaded.model, None, tmp_path / "ours")
    assert models.load(tmp_path / "ours").config == loaded.config
    again, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for parameter, expected in zip(again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(parameter, expected)
    # The same weights in the same torch code: any difference is one of configuration.
    for length in (9, 40):
        tokens = torch.arange(length)[None]
        with torch.no_grad():
            assert torch.equal(again(tokens).logits, theirs(tokens).logits)


def test_large_weights_are_split(adder, folder) -> None:
    whole = load_file(folder / "model.safetensors")
    models.save(adder.model, None, folder, shard_bytes=100_000)
    assert not (folder / "model.safetensors").exists()  # it would be stale
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    shards = sorted(folder.glob("*.safetensors"))
    assert {path.name for path in shards} == set(index["weight_map"].values())
    assert len(shards) > 2
    for path in shards:
        tensors = load_file(path)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 100_000 or len(tensors) == 1
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, whole.pop(name))
    assert not whole
    np.testing.assert_array_equal(
        models.load(folder).model(np.arange(9)[None]), adder.model(np.arange(9)[None])
    )
    # And back into one file, of which no shard is left.
    models.save(adder.model, None, folder)
    assert [path.name for path in folder.glob("*.safetensors*")] == ["model.safetensors"]


def test_transformers_loads_the_shards(adder, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    models.save(adder.model, None, tmp_path, shard_bytes=100_000)
    tokens = np.arange(12)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(tmp_path)(torch.tensor(tokens)).logits
    np.testing.assert_allclose(adder.model(tokens), expected, atol=1e-3)


def test_an_index_beside_a_whole_file_is_of_an_earlier_export(folder) -> None:
    before = models.load(folder).model
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    spoilt = {"model.norm.weight": np.zeros(64, np.float32)}
    save_file(spoilt, folder / "model-00001-of-00002.safetensors")
    again = models.load(folder).model
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(before))


def test_a_tensor_that_two_files_have(adder, tmp_path) -> None:
    models.save(adder.model, None, tmp_path, shard_bytes=100_000)
    first, *_, last = sorted(tmp_path.glob("*.safetensors"))
    tensors = load_file(last)
    save_file({**tensors, next(iter(load_file(first))): np.zeros(3, np.float32)}, last)
    assert f", as {first.name} does" in refusal(tmp_path)


def test_an_index_that_is_not_to_be_trusted(folder) -> None:
    (folder / "model.safetensors").unlink()
    for index, complaint in (
        ({"weight_map": {"a": ["x"]}}, "no weight_map"),
        ({"weight_map": [1]}, "no weight_map"),
        ([], "no JSON object"),
        ({"weight_map": {"a": "../elsewhere.safetensors"}}, "elsewhere"),
        ({"weight_map": {"a": "missing.safetensors"}}, "has no missing"),
        ({"weights": {}}, "no weight_map"),
    ):
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        assert complaint in refusal(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_type_survives_a_round_trip(adder, tmp_path, dtype: str) -> None:
    short = models.load("adder", dtype=dtype).model
    models.save(short, None, tmp_path)
    for loaded_as in (dtype, "float32"):
        again = models.load(tmp_path, dtype=loaded_as).model
        assert again.embedding[...].dtype == loaded_as
        leaves = (jax.tree.leaves(nnx.state(model)) for model in (again, short))
        assert all((x == y.astype(loaded_as)).all() for x, y in zip(*leaves, strict=True))


def test_a_folder_without_tokenizer_has_none(folder) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer cannot be read" in refusal(folder)
    (folder / "tokenizer.json").unlink()
    assert models.load(folder).tokenizer is None


def test_all_tensors_that_do_not_fit_are_named_at_once(folder) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        del tensors["model.norm.weight"]
        tensors["model.extra"] = np.zeros(2, np.float32)
        tensors["model.layers.0.mlp.up_proj.weight"] = np.zeros((3, 4), np.float32)

    edit_tensors(folder, spoil)
    message = refusal(folder)
    for part in ("1 missing (model.norm.weight)", "1 unexpected (model.extra)", "(3, 4) instead"):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "LlamaForCausalLM"),
        ({"architectures": None}, "LlamaForCausalLM"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"architectures": "LlamaForCausalLM"}, "known architectures"),
        ({"hidden_size": "many"}, "many"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0 is not between"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1 is not between"),
        ({"num_hidden_layers": True}, "not a whole number"),
        ({"num_hidden_layers": 20_000}, "not believable"),
        ({"hidden_size": 64.0}, "hidden_size = 64.0 is not a whole number"),
        ({"intermediate_size": [128]}, "intermediate_size = [128] is not a whole number"),
        ({"tie_word_embeddings": "no"}, "not true or false"),
        ({"model_type": "qwen2"}, "model_type is 'qwen2', not 'llama'"),
        ({"rms_norm_eps": float("nan")}, "NaN is no JSON value"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps = -1e-06 is not a positive, finite number"),
        ({"rms_norm_eps": 10**400}, "not a positive, finite number"),
        ({"attn_logit_softcapping": 30.0}, "attn_logit_softcapping = 30.0 is not supported"),
        ({"logit_scale": 0.5}, "logit_scale = 0.5 is not known"),
        ({"embedding_multiplier": 12}, "embedding_multiplier = 12 is not known"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_parameters.rope_theta = -1.0"),
        ({"rope_parameters": [1]}, "rope_parameters = [1] is not a table"),
        ({"rope_parameters": {"rope_type": "default", "factor": 4.0}}, "factor = 4.0 is not known"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2, "mrope_section": [8]}}, "mrope"),
        ({"rope_parameters": {"rope_type": ["yarn"]}}, "not a text"),
        ({"num_hidden_layers": 10**12}, "not between"),
        ({"vocab_size": float("inf")}, "Infinity is no JSON value"),
        ({"num_key_value_heads": 3}, "cannot share"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "default, linear, llama3, yarn"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'factor' is missing"),
    ],
)
def test_configurations_that_are_not_understood(folder, changes, complaint) -> None:
    edit_config(folder, **changes)
    assert complaint in refusal(folder)


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.float8_e4m3fn])
def test_weights_that_need_scales_are_refused(folder, dtype) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    edit_tensors(folder, lambda tensors: tensors.update({name: tensors[name].astype(dtype)}))
    assert f"{name} is stored as" in refusal(folder)


def test_files_that_cannot_be_read(folder) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\x80\x02}q\x00." * 20):
        weights.write_bytes(damaged)
        assert "safetensors" in refusal(folder)
    weights.rename(folder / "pytorch_model.bin")
    assert "can execute code" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(folder)
    shutil.rmtree(folder)
    assert "no such model" in refusal(folder)


def test_names_and_types_that_are_unknown(tmp_path) -> None:
    with pytest.raises(UserError, match="no such model"):
        models.load("gpt-5")
    with pytest.raises(UserError, match="float32, bfloat16, float16"):
        models.load("adder", dtype="int8")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="give the folder"):
        models.load(tmp_path / "weights.safetensors")


def test_what_makes_or_forbids_tokens_is_refused(folder) -> None:
    path = folder / "generation_config.json"
    sampling = {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True}
    path.write_text(json.dumps({"eos_token_id": 1, "suppress_tokens": None, **sampling}))
    models.load(folder)
    for said in ({"suppress_tokens": [3]}, {"stop_strings": ["\n"]}, {"a_new_rule": 3}):
        path.write_text(json.dumps(said))
        assert f"{path}: {next(iter(said))} = " in refusal(folder)


@pytest.mark.parametrize("content", ["[" * 10**5, '{"a": ' * 500 + "1" + "}" * 500, "\x00", "{}}"])
def test_json_that_is_none_is_one_line(folder, content: str) -> None:
    for name in ("config.json", "generation_config.json"):
        good = (folder / name).read_text() if (folder / name).exists() else "{}"
        (folder / name).write_text(content)
        assert str(folder / name) in refusal(folder)
        (folder / name).write_text(good)


def test_weights_that_are_no_numbers_are_named(folder) -> None:
    name = "model.layers.1.mlp.up_proj.weight"

    def spoil(tensors) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][0, :2] = np.inf, np.nan

    edit_tensors(folder, spoil)
    assert f"{name}: 2 of 8192 values are NaN or infinite" in refusal(folder)


def test_weights_that_a_short_type_cannot_hold_are_named(folder) -> None:
    name = "model.layers.0.mlp.down_proj.weight"

    def enlarge(tensors) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][0, 0] = -1e5

    edit_tensors(folder, enlarge)
    with pytest.raises(UserError, match="1 of 8192 values are beyond the range of float16"):
        models.load(folder, dtype="float16")
    assert models.load(folder, dtype="bfloat16").model is not None


def test_a_head_that_a_tied_configuration_does_not_expect_is_kept(tmp_path) -> None:
    """As transformers 5 does."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    models.save(random_model("llama, tied"), None, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tokens = np.arange(3, 20)[None]
    for change in (0.0, 0.5):
        noise = np.random.default_rng(0).normal(size=tensors["model.embed_tokens.weight"].shape)
        head = tensors["model.embed_tokens.weight"] + np.float32(change) * noise.astype(np.float32)
        save_file({**tensors, "lm_head.weight": head}, path, metadata={"format": "pt"})
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens)).logits.numpy()
        ours = models.load(tmp_path).model
        assert ours.config.tie_embeddings == (change == 0)
        room = 2 * FLOAT32 * np.abs(expected).max()
        np.testing.assert_allclose(ours(tokens), expected, rtol=0, atol=room)


def test_every_key_that_transformers_writes_is_on_a_list() -> None:
    from transformers import AutoConfig, GenerationConfig

    from gapjax.models.config_keys import CONFIG_KEYS
    from gapjax.models.families import FAMILIES
    from gapjax.models.generation_keys import GENERATION_KEYS

    for family in FAMILIES:
        written = AutoConfig.for_model(family).to_dict()
        CONFIG_KEYS.check(written | {"architectures": ["x"]}, where=family)
        listed = {*CONFIG_KEYS.honoured, *CONFIG_KEYS.harmless, *CONFIG_KEYS.neutral}
        assert set(written) <= listed
    keys = GENERATION_KEYS
    assert set(GenerationConfig().to_dict()) <= {*keys.honoured, *keys.harmless, *keys.neutral}
