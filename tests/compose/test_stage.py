import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import torch as safetensors_torch
from transformers import AutoModelForCausalLM

from codechoir.artifacts import MANIFEST, damaged_outputs, read_manifest
from codechoir.compose import stage
from codechoir.compose.description import describe
from codechoir.compose.plan import plan
from codechoir.compose.stage import compose
from codechoir.documents import DOCUMENT_SCHEMA, read_texts, write_parquet
from codechoir.errors import ConfigError, IncompatibleModelError, InputError, ProofError
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.moe import Routing, load_composed, open_composed

LANGUAGES = ("python", "java", "cpp")


def test_the_checkpoint_has_mixtrals_per_expert_names_and_the_experts_weights(composed, trunk, experts):
    found = safetensors_torch.load_file(composed / "model.safetensors")
    base = safetensors_torch.load_file(trunk / "model.safetensors")
    expected = {name: tensor for name, tensor in base.items() if ".mlp." not in name}
    for index, name in enumerate(LANGUAGES):
        tensors = safetensors_torch.load_file(experts[name] / "model.safetensors")
        for layer in (0, 1):
            for short, module in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
                expected[f"model.layers.{layer}.block_sparse_moe.experts.{index}.{short}.weight"] = tensors[
                    f"model.layers.{layer}.mlp.{module}.weight"
                ]
    routers = {f"model.layers.{layer}.block_sparse_moe.gate.weight" for layer in (0, 1)}
    assert found.keys() == expected.keys() | routers
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(found[name].shape == (3, 64) and found[name].abs().sum() > 0 for name in routers)


def test_the_config_is_mixtrals_and_says_what_mixtral_would_else_derive(composed):
    config = json.loads((composed / "config.json").read_text())
    assert config["architectures"] == ["MixtralForCausalLM"]
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (3, 2)
    assert config["head_dim"] == 16
    assert config["tie_word_embeddings"] is True
    assert config["dtype"] == "float32"
    model, loaded = AutoModelForCausalLM.from_pretrained(composed, output_loading_info=True)
    assert not any(loaded.values())
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_plain_transformers_reads_its_tokenizer_and_generates(composed, trunk):
    text = "def f(x):\n"
    assert load_tokenizer(composed)(text) == load_tokenizer(trunk)(text)
    ids = torch.tensor([load_tokenizer(composed)(text)["input_ids"]])
    out = AutoModelForCausalLM.from_pretrained(composed).generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    assert out.shape == (1, ids.shape[1] + 3)


def test_the_manifest_tells_what_was_made_and_proven(composition, trunk):
    folder, manifest = composition
    assert read_manifest(folder) == manifest
    assert damaged_outputs(folder, manifest) == []
    facts = manifest.facts
    assert facts["experts"] == list(LANGUAGES)
    assert [figure["max_abs_difference"] for figure in facts["proofs"]["fixed_route"].values()] == [0, 0, 0]
    assert facts["proofs"]["identical_experts"]["relative"] < 1e-5
    dense = sum(parameter.numel() for parameter in load_model(trunk, torch.float32).parameters())
    expert, routers = 2 * 3 * 64 * 128, 2 * 3 * 64
    assert facts["total_parameters"] == dense + 2 * expert + routers
    assert facts["active_parameters"] == {
        "dense": dense,
        "top1": dense + routers,
        "top2": dense + expert + routers,
        "uniform": dense + 2 * expert,
    }
    assert len(facts["token_router"]["accuracy_by_layer"]) == len(facts["token_router"]["temperature_by_layer"]) == 2


def test_the_prompt_routers_figures_are_those_of_the_written_router(composition, documents):
    folder, manifest = composition
    facts, router = manifest.facts["prompt_router"], open_composed(folder).prompt_router
    tokenizer = load_tokenizer(folder)
    assert facts["documents"] == dict.fromkeys(LANGUAGES, 5)
    for length in ("16", "512"):
        shares = {}
        for name in LANGUAGES:
            chosen = [
                LANGUAGES[int(router.probabilities([torch.tensor(ids[: int(length)])]).argmax())]
                for ids in (tokenizer(text.content)["input_ids"] for text in read_texts(documents, name, "held_out"))
            ]
            shares[name] = {other: chosen.count(other) / 5 for other in LANGUAGES}
        assert facts["confusion"][length] == shares
        assert {name: by[length] for name, by in facts["accuracy_by_language"].items()} == {
            name: shares[name][name] for name in LANGUAGES
        }
        assert facts["accuracy"][length] == pytest.approx(sum(shares[n][n] for n in LANGUAGES) / 3, abs=1e-5)
    assert facts["accuracy"]["512"] == 1


@pytest.fixture
def fresh(composed, tmp_path):
    """A copy of the finished folder, for tests that damage it."""
    return shutil.copytree(composed, tmp_path / "compose")


@pytest.fixture
def num_runs(monkeypatch):
    """A list that grows when the stage does its work, which here ends before the long part."""
    runs = []

    def stop(*_):
        runs.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "fit_prompt_router", stop)
    return runs


def test_what_is_finished_is_not_done_again(fresh, composition, compose_config, compose_inputs, num_runs):
    assert compose(compose_config, compose_inputs, fresh) == composition[1]
    assert not num_runs


@pytest.mark.parametrize("change", ["config", "inputs", "experts", "weights", "manifest"])
def test_what_changed_or_was_damaged_is_done_again(fresh, compose_config, compose_inputs, num_runs, change):
    config, inputs = compose_config, compose_inputs
    if change == "config":
        config = config.model_copy(update={"ridge": 0.5})
    elif change == "inputs":
        inputs = replace(inputs, digests={"train": "other", "documents": "d"})
    elif change == "experts":
        inputs = replace(inputs, experts=dict(reversed(inputs.experts.items())))
    elif change == "weights":
        (fresh / "model.safetensors").write_bytes(b"cut")
    else:
        (fresh / MANIFEST).unlink()
        (fresh / "unfinished.json").write_text(json.dumps({"stage": "compose", "digest": ""}))
    with pytest.raises(KeyboardInterrupt):
        compose(config, inputs, fresh)
    assert num_runs
    assert not (fresh / MANIFEST).exists()


@pytest.mark.parametrize(
    "step", ["fit_prompt_router", "write_routing", "write_streaming", "fit_token_routers", "prove"]
)
def test_a_run_that_was_interrupted_is_taken_up(
    composition, compose_config, compose_inputs, tmp_path, monkeypatch, step
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(stage, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            compose(compose_config, compose_inputs, out)
    with pytest.raises(InputError, match="not finished"):
        read_manifest(out)
    manifest = compose(compose_config, compose_inputs, out)
    assert manifest.digest == composition[1].digest
    assert (out / "model.safetensors").read_bytes() == (composition[0] / "model.safetensors").read_bytes()
    assert not (out / "unfinished.json").exists()


def test_after_a_failed_proof_nothing_is_taken_for_finished(compose_config, compose_inputs, tmp_path, monkeypatch):
    real = stage.Weights.read

    def spoilt(weights, output):
        chosen = output.tensor.name == "model.layers.1.block_sparse_moe.experts.1.w2.weight"
        return real(weights, output) * 1.001 if chosen else real(weights, output)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(stage.Weights, "read", spoilt)
        with pytest.raises(ProofError, match="java"):
            compose(compose_config, compose_inputs, out)
    assert not (out / MANIFEST).exists()
    with pytest.raises(InputError):
        load_model(out, torch.float32)
    assert compose(compose_config, compose_inputs, out).facts["proofs"]


def test_models_that_do_not_fit_leave_the_folder_as_it_was(compose_config, compose_inputs, fresh):
    before = sorted(path.name for path in fresh.iterdir())
    with pytest.raises(IncompatibleModelError):
        compose(compose_config, replace(compose_inputs, experts={"python": compose_inputs.trunk}), fresh)
    assert sorted(path.name for path in fresh.iterdir()) == before


@pytest.mark.parametrize(("key", "fitted"), [("sequence_length", True), ("proof_tokens", False)])
def test_text_longer_than_the_models_positions_leaves_the_folder_as_it_was(
    compose_config, compose_inputs, fresh, key, fitted
):
    before = sorted(path.name for path in fresh.iterdir())
    inputs = compose_inputs if fitted else replace(compose_inputs, documents=None)
    with pytest.raises(ConfigError, match="no positions for so much text") as refused:
        compose(compose_config.model_copy(update={key: 2049}), inputs, fresh)
    assert (refused.value.seen, refused.value.allowed) == (f"compose.{key} 2049", "at most 2048")
    assert sorted(path.name for path in fresh.iterdir()) == before


@pytest.mark.parametrize(("num_files", "length"), [(4, 100), (20, 1)])
def test_too_little_text_is_told(compose_config, compose_inputs, documents, tmp_path, num_files, length):
    shutil.copytree(documents, tmp_path / "documents")
    rows = [
        {"key": str(number), "package": "p", "content": "x" * length, "split": "train"} for number in range(num_files)
    ]
    write_parquet(tmp_path / "documents" / "java" / "part.parquet", rows, DOCUMENT_SCHEMA)
    with pytest.raises(InputError, match="too little text") as refused:
        compose(compose_config, replace(compose_inputs, documents=tmp_path / "documents"), tmp_path / "out")
    assert "java" in str(refused.value.seen)


def test_a_language_without_documents_is_told(compose_config, compose_inputs, documents, tmp_path):
    shutil.copytree(documents, tmp_path / "documents")
    shutil.rmtree(tmp_path / "documents" / "cpp")
    with pytest.raises(InputError, match="cpp"):
        compose(compose_config, replace(compose_inputs, documents=tmp_path / "documents"), tmp_path / "out")


def test_without_held_out_files_the_prompt_routers_accuracy_is_undefined(
    compose_config, compose_inputs, documents, tmp_path
):
    shutil.copytree(documents, tmp_path / "documents")
    rows = [
        {"key": str(number), "package": "p", "content": "class A {}\n" * 12, "split": "train"} for number in range(12)
    ]
    write_parquet(tmp_path / "documents" / "java" / "part.parquet", rows, DOCUMENT_SCHEMA)
    manifest = compose(compose_config, replace(compose_inputs, documents=tmp_path / "documents"), tmp_path / "out")
    facts = read_manifest(tmp_path / "out").facts["prompt_router"]
    assert facts["documents"]["java"] == 0
    assert facts["accuracy_by_language"]["java"]["512"] != facts["accuracy_by_language"]["java"]["512"]
    assert facts["accuracy_by_language"]["cpp"]["512"] == 1
    assert manifest.facts["proofs"]


def test_without_documents_every_token_goes_to_all_experts_alike(compose_config, compose_inputs, tmp_path):
    manifest = compose(compose_config, replace(compose_inputs, documents=None), tmp_path / "out")
    assert "token_router" not in manifest.facts and "prompt_router" not in manifest.facts
    assert [figure["max_abs_difference"] for figure in manifest.facts["proofs"]["fixed_route"].values()] == [0, 0, 0]
    tokens = torch.randint(257, (2, 20), generator=torch.Generator().manual_seed(1))
    by_token = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(tokens).logits
    uniform = load_composed(tmp_path / "out", Routing.UNIFORM, 1, torch.float32)(tokens).logits
    torch.testing.assert_close(by_token, uniform, rtol=1e-4, atol=1e-4)
    by_prompt = load_composed(tmp_path / "out", Routing.PROMPT, 1, torch.float32)
    torch.testing.assert_close(by_prompt(tokens).logits, uniform)
    assert by_prompt.shares() == [dict.fromkeys(LANGUAGES, 0.3333)] * 2


def test_a_fallback_that_there_is_not_is_refused_before_anything_is_written(compose_config, compose_inputs, tmp_path):
    config = compose_config.model_copy(update={"prompt_fallback": "generalist"})
    with pytest.raises(ConfigError, match="python, java, cpp"):
        compose(config, compose_inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_sidecar_tells_the_fallback_and_the_manifest_its_share(composition):
    folder, manifest = composition
    told = json.loads((folder / "routing.json").read_text())["prompt_router"]
    assert (told["fallback"], told["confidence"], told["generalist"]) == ("top-2", 0.7, None)
    facts = manifest.facts["prompt_router"]
    assert (facts["fallback"], facts["confidence"]) == ("top-2", 0.7)
    assert facts["fallback_share"].keys() == facts["calibration_error"].keys() == facts["accuracy"].keys()


def test_it_is_recorded_what_it_is_made_of_and_licence_texts_go_along(compose_config, compose_inputs, tmp_path):
    trunk = shutil.copytree(compose_inputs.trunk, tmp_path / "base")
    (trunk / "LICENSE").write_text("terms")
    (trunk / "README.md").write_text("---\nlicense: mit\nbase_model: someone/small\n---\n")
    config = compose_config.model_copy(update={"prove": False})
    inputs = replace(compose_inputs, trunk=trunk, documents=None)
    manifest = compose(config, inputs, tmp_path / "out")
    assert manifest.facts["made_of"]["base"] == {
        "name": "base",
        "base_model": "someone/small",
        "licence": "mit",
        "licence_files": ["LICENSE"],
    }
    assert list(manifest.facts["made_of"]["experts"]) == list(LANGUAGES)
    assert manifest.facts["made_of"]["experts"]["java"]["licence"] is None
    assert (tmp_path / "out" / "LICENSE").read_text() == "terms"


@pytest.mark.parametrize("layers", ["all", "1"])
def test_the_plan_tells_the_bytes_that_are_written(compose_config, compose_inputs, tmp_path, layers):
    config = compose_config.model_copy(update={"prove": False, "layers": layers, "shared": "base"})
    for documents in (compose_inputs.documents, None):
        fitted, out = documents is not None, tmp_path / str(documents is None)
        planned = plan(compose_inputs.trunk, compose_inputs.experts, config, fitted=fitted)
        told = sum(each["bytes"] for each in describe(planned, out, config, fitted=fitted)["writes"])
        compose(config, replace(compose_inputs, documents=documents), out)
        described = sum(path.stat().st_size for path in out.iterdir() if path.suffix != ".py")
        assert told <= described <= told + 40_000  # headers, and what is not described: JSON of a few kilobytes
        assert (out / "moments.safetensors").exists() == fitted


def test_routers_are_fitted_for_what_only_our_own_model_class_can_say(compose_config, compose_inputs, vary, tmp_path):
    """Experts in layer 1 alone; the router is that of the whole model's layer 1, since layer 0 is the same."""
    trunk = compose_inputs.trunk
    experts = {
        name: vary(trunk, tmp_path / name, seed, lambda tensor: "layers.1.mlp" in tensor)
        for seed, name in enumerate(LANGUAGES, 5)
    }
    inputs = replace(compose_inputs, experts=experts)
    whole = compose(compose_config, inputs, tmp_path / "whole")
    config = compose_config.model_copy(update={"layers": "1", "generalist": True})
    manifest = compose(config, inputs, tmp_path / "some")
    assert manifest.facts["token_router"]["layers"] == [1]
    assert manifest.facts["token_router"]["accuracy_by_layer"] == whole.facts["token_router"]["accuracy_by_layer"][1:]
    router = safetensors_torch.load_file(tmp_path / "some" / "model.safetensors")["model.layers.1.mlp.router.weight"]
    like = safetensors_torch.load_file(tmp_path / "whole" / "model.safetensors")
    expected = like["model.layers.1.block_sparse_moe.gate.weight"]
    warmer = (  # the generalist's row of zeros is one more to be told from
        manifest.facts["token_router"]["temperature_by_layer"][0]
        / whole.facts["token_router"]["temperature_by_layer"][1]
    )
    torch.testing.assert_close(router[:3] * warmer, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert not router[3].any()  # the generalist's
    probabilities = open_composed(tmp_path / "some").prompt_router.probabilities([torch.arange(30)])
    assert probabilities.shape == (1, 4) and int(probabilities.argmax()) < 3
    assert set(manifest.facts["prompt_router"]["confusion"]["512"]["java"]) == {*LANGUAGES, "generalist"}


def test_what_is_refused_while_weights_are_read_leaves_no_model(compose_config, compose_inputs, vary, tmp_path):
    drifted = vary(compose_inputs.experts["java"], tmp_path / "java", 9, lambda name: name == "model.norm.weight")
    inputs = replace(compose_inputs, experts=dict(compose_inputs.experts) | {"java": drifted})
    with pytest.raises(IncompatibleModelError, match="outside its feed-forward") as refused:
        compose(compose_config, inputs, tmp_path / "out")
    assert f"model.norm.weight in {drifted / 'model.safetensors'}" in str(refused.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]


def test_all_files_of_a_model_have_the_same_rights(composed):
    assert len({path.stat().st_mode for path in composed.iterdir() if path.is_file()}) == 1


def test_experts_trained_in_layers_that_get_none_are_told_from_a_wrong_base(compose_config, compose_inputs, tmp_path):
    config = compose_config.model_copy(update={"layers": "0", "prove": False})
    with pytest.raises(IncompatibleModelError, match="of the layers that get experts") as refused:
        compose(config, compose_inputs, tmp_path / "out")
    assert "mlp" in str(refused.value) and "set shared to base" in str(refused.value)
