import json
import os
import resource
import shutil
import stat
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy
from safetensors import torch as safetensors_torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer

from codechoir.errors import DiskFullError, IncompatibleModelError, InputError
from codechoir.model import checkpoint
from codechoir.model.checkpoint import (
    begin_folder,
    full_config,
    load_model,
    load_tensors,
    load_tokenizer,
    open_checkpoint,
    open_weights,
    save_tensors,
    separator_id,
    write_checkpoint,
)

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def copy(random_base, tmp_path):
    """A copy of the random model, for tests that change it."""
    return shutil.copytree(random_base, tmp_path / "copy")


@pytest.fixture
def sharded(copy):
    """The random model in two shards with an index, written by the library alone."""
    tensors = safetensors_torch.load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    shards = {"a.safetensors": {}, "b.safetensors": {}}
    for number, name in enumerate(sorted(tensors)):
        shards["ab"[number % 2] + ".safetensors"][name] = tensors[name]
    for file, held in shards.items():
        safetensors_torch.save_file(held, copy / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    return copy


def change_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def rewritten(folder, change):
    """Writes the folder's tensors again, changed."""
    tensors = dict(open_checkpoint(folder).items())
    change(tensors)
    write_checkpoint(folder, open_checkpoint(folder).config, tensors, tokenizer=folder)
    return folder


def test_what_is_written_is_what_the_library_reads(tmp_path, random_base):
    tensors = {
        "b": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
        "a": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "c": torch.tensor(7),
    }
    write_checkpoint(tmp_path / "new", {"model_type": "llama", "é": [1]}, tensors, tokenizer=random_base)
    found = safetensors_numpy.load_file(tmp_path / "new" / "model.safetensors")
    assert set(found) == {"a", "b", "c"}
    np.testing.assert_array_equal(found["b"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["a"], np.array([1.5, -2.0], dtype=np.float16))
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == {"model_type": "llama", "é": [1]}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "new" / name).read_bytes() == (random_base / name).read_bytes()

    opened = open_checkpoint(tmp_path / "new")
    assert opened.shapes() == {"a": (2,), "b": (3, 2), "c": ()}
    assert [name for name, _ in opened.items()] == ["a", "b", "c"]
    assert torch.equal(opened.read("b"), tensors["b"])
    assert opened.read("a").dtype is torch.float16


def test_shards_read_as_one_file_does(sharded, random_base):
    whole = safetensors_torch.load_file(random_base / "model.safetensors")
    opened = open_checkpoint(sharded)
    assert len(set(opened.files.values())) == 2
    found = dict(opened.items())
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert opened.shapes() == {name: tuple(tensor.shape) for name, tensor in sorted(whole.items())}
    assert load_model(sharded, torch.float32).get_parameter(NAME).equal(whole[NAME])


def test_a_missing_shard_is_named(sharded):
    (sharded / "b.safetensors").unlink()
    with pytest.raises(InputError, match=r"b\.safetensors"):
        open_checkpoint(sharded)


def test_a_tensor_that_only_the_index_has_is_named(sharded):
    change_index(sharded, lambda index: index["weight_map"].update({"no.such.weight": "a.safetensors"}))
    with pytest.raises(InputError, match=r"a\.safetensors: no\.such\.weight"):
        open_checkpoint(sharded)


def test_an_index_that_leads_out_of_its_folder_is_refused(sharded, random_base):
    for file in ("../elsewhere.safetensors", str(random_base / "model.safetensors"), 5):
        change_index(sharded, lambda index, file=file: index["weight_map"].update({NAME: file}))
        with pytest.raises(InputError, match=r"index\.json"):
            open_checkpoint(sharded)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_a_damaged_index_is_named(sharded, index):
    (sharded / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=r"index\.json"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "weights.pkl"])
def test_pickled_weights_are_refused_by_name(copy, name):
    (copy / "model.safetensors").rename(copy / name)
    with pytest.raises(InputError, match=name) as refused:
        open_checkpoint(copy)
    assert "pickled" in refused.value.next_step
    with pytest.raises(InputError, match=name):
        load_model(copy, torch.float32)


def test_a_folder_without_weights_or_config_is_told(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        open_checkpoint(copy)
    (copy / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config\.json"):
        open_checkpoint(copy)
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        open_checkpoint(copy)
    with pytest.raises(InputError, match="no such model folder"):
        open_checkpoint(copy / "nowhere")


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_truncated_weights_are_named(copy, kept):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    for read in (open_checkpoint, lambda folder: load_model(folder, torch.float32)):
        with pytest.raises(InputError, match=r"damaged[\s\S]*model\.safetensors"):
            read(copy)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_tensors(path)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_weights_may_be_read_by_whom_other_files_may_be(tmp_path, umask):
    (tmp_path / ".x.safetensors.partial").touch(0o600)  # that a killed run left
    before = os.umask(umask)
    try:
        save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(3)}, {})
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert rights == {"x.safetensors": 0o666 & ~umask, "other": 0o666 & ~umask}


@pytest.fixture
def small_disk():
    """No file may grow over 100 kB, which the system tells as it tells a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_nothing_half_written(tmp_path, random_base):
    opened = open_checkpoint(random_base)
    with pytest.raises(DiskFullError, match=r"model\.safetensors"):
        write_checkpoint(tmp_path / "new", opened.config, dict(opened.items()), tokenizer=random_base)
    assert {path.name for path in (tmp_path / "new").iterdir()} <= set(checkpoint.TOKENIZER_FILES)
    with pytest.raises(InputError):
        open_checkpoint(tmp_path / "new")


def test_a_full_disk_takes_the_config_of_what_was_to_be_replaced(copy, request):
    request.getfixturevalue("small_disk")
    opened = open_checkpoint(copy)
    with pytest.raises(DiskFullError):
        write_checkpoint(copy, opened.config, dict(opened.items()), tokenizer=copy)
    assert not (copy / "config.json").exists()
    assert not list(copy.glob(".*"))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_keeps_the_file_that_was_there(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(3)}, {"step": "1"})
    with pytest.raises(DiskFullError):
        save_tensors(path, {"a": torch.ones(100_000)}, {})
    tensors, metadata = load_tensors(path)
    assert (tensors["a"].tolist(), metadata) == ([1, 1, 1], {"step": "1"})
    assert [found.name for found in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("I/O error: No space left on device (os error 28)", DiskFullError),
        ("I/O error: Disk quota exceeded (os error 122)", DiskFullError),
        ("I/O error: Permission denied (os error 13)", PermissionError),
        ("something of its own", SafetensorError),
    ],
)
def test_the_systems_errors_come_through_the_library(tmp_path, monkeypatch, message, kind):
    def fail(_tensors, path, _metadata):
        path.write_bytes(b"half")
        raise SafetensorError(message)

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(kind):
        save_tensors(tmp_path / "x.safetensors", {}, {})
    assert not list(tmp_path.iterdir())


def test_a_model_whose_weights_do_not_fit_is_not_loaded_with_random_ones(copy):
    rewritten(copy, lambda tensors: tensors.pop(NAME))
    with pytest.raises(InputError, match=NAME):
        load_model(copy, torch.float32)
    rewritten(copy, lambda tensors: tensors.update({NAME: torch.zeros(3, 3)}))
    with pytest.raises(InputError, match=NAME):
        load_model(copy, torch.float32)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "wonder"},
        {"num_attention_heads": "four"},
        {"model_type": "wonder", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}},
    ],
)
def test_a_model_that_transformers_does_not_know_is_refused(copy, change):
    (copy / "evil.py").write_text("raise SystemExit('remote code ran')")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(IncompatibleModelError, match="transformers cannot"):
        load_model(copy, torch.float32)
    with pytest.raises(IncompatibleModelError, match=r"config\.json"):
        full_config(open_checkpoint(copy))


def test_the_full_config_is_what_transformers_takes(copy):
    kept = ("model_type", "hidden_size", "num_attention_heads", "vocab_size")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({key: config[key] for key in kept} | {"rope_theta": 7.0}))
    found = full_config(open_checkpoint(copy))
    expected = AutoConfig.from_pretrained(copy)
    for key in ("num_key_value_heads", "rms_norm_eps", "head_dim", "tie_word_embeddings", "intermediate_size"):
        assert found[key] == getattr(expected, key)
    assert found["rope_parameters"]["rope_theta"] == 7.0


def test_a_folder_without_a_tokenizer_is_told(copy):
    assert load_tokenizer(copy)("a")["input_ids"]
    for name in checkpoint.TOKENIZER_FILES:
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="no tokenizer"):
        load_tokenizer(copy)


@pytest.mark.parametrize("model_type", ["llama", "gpt_bigcode", "starcoder2", "codechoir_moe"])
@pytest.mark.parametrize("named", ["GPT2Tokenizer", "GPT2TokenizerFast", None])
def test_a_tokenizer_is_its_file_whatever_class_is_named(copy, tmp_path, named, model_type):
    """The file parts digits before it merges them, as SmolLM2's does; GPT-2's class knows no such rule."""
    told = json.loads((copy / "tokenizer.json").read_text())
    told["model"]["vocab"]["10"] = len(told["model"]["vocab"])
    told["model"]["merges"] = [["1", "0"]]
    told["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, told["pre_tokenizer"]],
    }
    (copy / "tokenizer.json").write_text(json.dumps(told))
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": named}))
    config = json.loads((copy / "config.json").read_text()) | {"model_type": model_type}
    (copy / "config.json").write_text(json.dumps(config))
    written = tmp_path / "written"
    begin_folder(written, copy)
    expected = Tokenizer.from_file(str(copy / "tokenizer.json")).encode("x = 10").ids
    assert len(expected) == 6
    for tokenizer in (load_tokenizer(copy), load_tokenizer(written), AutoTokenizer.from_pretrained(written)):
        assert tokenizer("x = 10", add_special_tokens=False)["input_ids"] == expected
        assert tokenizer.eos_token == "<|endoftext|>"


@pytest.mark.parametrize(
    ("vocabulary", "eos", "bos", "expected"),
    [
        ({"a": 0, "<|endoftext|>": 5, "<|im_end|>": 6}, 6, 1, 5),
        ({"a": 0, "</s>": 2}, 2, 1, 2),
        ({"a": 0}, None, 1, 1),
        ({"a": 0}, 0, None, 0),
    ],
)
def test_documents_are_kept_apart_by_the_end_of_text(vocabulary, eos, bos, expected):
    tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary, eos_token_id=eos, bos_token_id=bos)
    assert separator_id(tokenizer) == expected


def test_a_tokenizer_without_an_end_of_text_is_told():
    with pytest.raises(InputError, match="some/model"):
        separator_id(SimpleNamespace(get_vocab=dict, eos_token_id=None, bos_token_id=None, name_or_path="some/model"))


def test_formats_and_shapes_are_read_from_the_headers(copy):
    tensors = {"a": torch.zeros(2, 3).bfloat16(), "b": torch.zeros(4, dtype=torch.int64), "c": torch.tensor(True)}
    write_checkpoint(copy, {}, tensors, tokenizer=copy)
    specs = open_checkpoint(copy).specs()
    assert {name: (spec.dtype, spec.shape) for name, spec in specs.items()} == {
        name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()
    }
    safetensors_torch.save_file({"odd": torch.zeros(2).to(torch.float8_e4m3fn)}, copy / "model.safetensors")
    with pytest.raises(InputError, match=r"F8_E4M3: odd in .*model\.safetensors"):
        open_checkpoint(copy).specs()


def test_weights_may_be_opened_without_a_config(copy, sharded):
    (sharded / "config.json").unlink()
    assert len(set(open_weights(sharded).files.values())) == 2
    safetensors_torch.save_file({"lora": torch.ones(2)}, copy / "adapter_model.safetensors")
    opened = open_weights(copy, "adapter_model")
    assert (opened.config, opened.read("lora").tolist()) == ({}, [1, 1])
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(InputError, match=r"adapter_model\.bin"):
        open_weights(copy, "adapter_model")
    with pytest.raises(InputError, match="nowhere"):
        open_weights(copy / "nowhere")


def test_a_model_written_over_shards_is_not_mixed_with_them(sharded):
    tensors = dict(open_checkpoint(sharded).items())
    (sharded / "model-00001-of-00002.safetensors").write_bytes(b"old")
    write_checkpoint(sharded, open_checkpoint(sharded).config, tensors, tokenizer=sharded)
    assert not (sharded / "model.safetensors.index.json").exists()
    assert not (sharded / "model-00001-of-00002.safetensors").exists()
    assert set(open_checkpoint(sharded).files.values()) == {sharded / "model.safetensors"}
