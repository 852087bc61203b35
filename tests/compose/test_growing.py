"""Experts come and go; the oracle is composing anew, the experts' own folders, and plain transformers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.artifacts import read_manifest
from codechoir.compose.export.stage import ExportRequest, export
from codechoir.compose.growing import Change, GrowInputs, grow
from codechoir.compose.moments import MOMENTS_JSON, MOMENTS_TENSORS, read_moments
from codechoir.compose.provenance import own_share
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.texts import RouterTexts
from codechoir.errors import ConfigError, IncompatibleModelError, InputError
from codechoir.model.checkpoint import load_model, load_tokenizer, open_checkpoint
from codechoir.model.moe import Routing, load_composed, open_composed

LANGUAGES = ("python", "java", "cpp")


def gates(folder):
    tensors = dict(open_checkpoint(folder).items())
    return {name: tensor for name, tensor in tensors.items() if name.endswith(("moe.gate.weight", "router.weight"))}


def close(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-3, atol=1e-3 * float(other[name].abs().max()))


def tensor_bytes(folder, of=lambda _: True):
    return {name: tensor.numpy().tobytes() for name, tensor in open_checkpoint(folder).items() if of(name)}


@pytest.fixture(scope="module")
def made(compose_config, compose_inputs, tmp_path_factory):
    """`made(*languages, **config)`: those experts composed anew, with documents."""
    folders = {}

    def make(*languages, **settings):
        key = (languages, tuple(settings.items()))
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("made") / "compose"
            config = compose_config.model_copy(update={"prove": False, **settings})
            chosen = {name: compose_inputs.experts[name] for name in languages}
            compose(config, replace(compose_inputs, experts=chosen), folders[key])
        return folders[key]

    return make


@pytest.fixture
def run(compose_config, documents, tmp_path):
    """`run(model, change, documents, out, **config)`: the changed model's folder and what its manifest says."""

    def change(model, change, given=documents, out="out", **settings):
        config = compose_config.model_copy(update=settings)
        manifest = grow(config, GrowInputs(model, given, {"model": str(model)}), change, tmp_path / out)
        return tmp_path / out, manifest.facts

    return change


@pytest.fixture
def only(documents, tmp_path):
    """`only(*languages)`: the documents of these alone."""

    def copy(*languages):
        for name in languages:
            shutil.copytree(documents / name, tmp_path / "some" / name)
        return tmp_path / "some"

    return copy


def test_adding_from_moments_is_composing_anew(made, run, experts, composed, only):
    """With the new language's documents alone: the others' part is in the moments."""
    two = made("python", "java")
    out, facts = run(two, Change("cpp", experts["cpp"]), only("cpp"))
    temperature = read_moments(two, 64).temperatures
    expected = dict(gates(composed))
    anew = read_moments(composed, 64)
    for layer, name in enumerate(sorted(expected)):  # temperatures stay those of before
        expected[name] = expected[name] * anew.temperatures[layer] / temperature[layer]
    close(gates(out), expected)
    assert facts["token_router"]["temperature_by_layer"] == list(temperature)
    assert "temperatures are those of before" in facts["token_router"]["how"]
    others = tensor_bytes(composed, lambda name: "gate" not in name)
    assert tensor_bytes(out, lambda name: "gate" not in name) == others


def test_with_documents_of_all_languages_the_whole_model_is_that_of_composing_anew(made, run, experts, composed):
    out, facts = run(made("python", "java"), Change("cpp", experts["cpp"]))
    close(gates(out), gates(composed))
    anew = read_manifest(composed).facts
    assert facts["token_router"]["temperature_by_layer"] == anew["token_router"]["temperature_by_layer"]
    assert facts["token_router"]["accuracy_by_layer"] == pytest.approx(
        anew["token_router"]["accuracy_by_layer"], abs=5e-3
    )
    router, expected = open_composed(out).prompt_router, open_composed(composed).prompt_router
    assert torch.equal(router.weight_FE, expected.weight_FE) and router.temperature == expected.temperature
    assert facts["prompt_router"]["after"] == anew["prompt_router"]
    assert facts["experts"] == list(LANGUAGES)
    assert facts["total_parameters"] == anew["total_parameters"]
    config, expected_config = (json.loads((folder / "config.json").read_text()) for folder in (out, composed))
    assert config == expected_config
    close(load_file(out / MOMENTS_TENSORS), load_file(composed / MOMENTS_TENSORS))


def test_a_new_expert_is_drawn_as_those_were_that_are_there(made, run, experts, composed):
    """Toward the mean of all as trained; what is there stays, byte for byte."""
    two = made("python", "java", own_share=0.25)
    out, facts = run(two, Change("cpp", experts["cpp"]), None, prove=False)
    assert facts["own_share"] == 0.25
    trained = dict(open_checkpoint(composed).items())
    found, before = (dict(open_checkpoint(folder).items()) for folder in (out, two))
    names = [name for name in found if ".experts.2." in name]
    assert names
    for name in names:
        own, *others = (trained[name.replace(".2.", f".{place}.")].float() for place in (2, 0, 1))
        expected = 0.25 * own + 0.75 * (own + sum(others)) / 3
        torch.testing.assert_close(found[name].float(), expected, rtol=2e-2, atol=2e-3)
    assert all(torch.equal(found[name], before[name]) for name in before if ".experts." in name)
    again, _ = run(out, Change("java"), None, out="again", prove=False)
    assert own_share(again) == 0.25


def test_dropping_from_moments_needs_no_text(run, made, composed):
    out, facts = run(composed, Change("java"), None)
    expected, stored = gates(made("python", "cpp")), read_moments(composed, 64).temperatures
    anew = read_moments(made("python", "cpp"), 64).temperatures
    for layer, name in enumerate(sorted(expected)):
        expected[name] = expected[name] * anew[layer] / stored[layer]
    close(gates(out), expected)
    assert facts["retention"] == {}
    assert list(read_moments(out, 64).languages) == ["python", "cpp"]
    assert [figure["max_abs_difference"] for figure in facts["proofs"]["fixed_route"].values()] == [0, 0]
    assert facts["proofs"]["identical_experts"]["relative"] < 1e-5


def test_the_others_weights_stay_the_same_bytes(run, composed):
    out, _ = run(composed, Change("python"))
    before, after = (tensor_bytes(folder, lambda name: "gate" not in name) for folder in (composed, out))
    moved = {}
    for name, data in before.items():
        if ".experts." not in name:
            moved[name] = data
        elif ".experts.0." not in name:
            old = int(name.split(".experts.")[1][0])
            moved[name.replace(f".experts.{old}.", f".experts.{old - 1}.")] = data
    assert after == moved


@pytest.mark.parametrize("name", ["java", "cpp"])
def test_dropped_and_added_again_it_is_the_same_model(run, composed, experts, name):
    smaller, _ = run(composed, Change(name), out="smaller")
    again, facts = run(smaller, Change(name, experts[name]), out="again")
    order = [each for each in LANGUAGES if each != name] + [name]
    assert facts["experts"] == order
    for gate, tensor in gates(again).items():
        expected = gates(composed)[gate][[LANGUAGES.index(each) for each in order]]
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    tokens = torch.randint(257, (1, 20), generator=torch.Generator().manual_seed(1))
    for each in LANGUAGES:
        logits = []
        for folder in (composed, again):
            model = load_composed(folder, Routing.FIXED, 1, torch.float32)
            model.fix_routes([each])
            logits.append(model(tokens).logits)
        assert torch.equal(*logits)


def test_a_dropped_experts_probability_goes_to_the_others_in_proportion(run, composed):
    out, facts = run(composed, Change("java"), None)
    prefixes = [torch.arange(5, 60), torch.arange(100, 130)]
    before = open_composed(composed).prompt_router.probabilities(prefixes)[:, [0, 2]]
    found = open_composed(out).prompt_router.probabilities(prefixes)
    torch.testing.assert_close(found, before / before.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    assert "not refitted" in facts["prompt_router"]["how"]


def test_an_expert_added_without_documents_is_in_no_router(run, made, experts, capsys):
    two = made("python", "java")
    out, facts = run(two, Change("cpp", experts["cpp"]), None)
    for name, tensor in gates(out).items():
        assert not tensor[2].any()
        torch.testing.assert_close(tensor[:2], gates(two)[name], rtol=1e-3, atol=1e-5)
    assert not open_composed(out).prompt_router.weight_FE[:, 2].any()
    assert "without documents of cpp" in facts["token_router"]["how"]
    assert "does not know cpp" in facts["prompt_router"]["how"]
    said = capsys.readouterr().err
    assert "without documents of cpp" in said and "does not know cpp" in said and "not measured" in said
    assert facts["proofs"]["fixed_route"]["cpp"]["max_abs_difference"] == 0


def test_the_others_moments_outlive_an_expert_without_any(run, made, composed, experts):
    larger, _ = run(made("python", "cpp"), Change("java", experts["java"]), None, out="larger", prove=False)
    assert list(read_moments(larger, 64).languages) == ["python", "cpp"]
    smaller, facts = run(larger, Change("python"), None, out="smaller", prove=False)
    assert facts["experts"] == ["cpp", "java"]
    assert list(read_moments(smaller, 64).languages) == ["cpp"]
    again, _ = run(smaller, Change("python", experts["python"]), out="again", prove=False)
    order = [LANGUAGES.index(name) for name in ("cpp", "java", "python")]
    close(gates(again), {name: tensor[order] for name, tensor in gates(composed).items()})


def test_a_model_without_moments_keeps_its_rows(run, composed, tmp_path):
    model = shutil.copytree(composed, tmp_path / "model")
    (model / MOMENTS_JSON).unlink()
    out, facts = run(model, Change("java"), None)
    for name, tensor in gates(out).items():
        assert torch.equal(tensor, gates(composed)[name][[0, 2]])
    assert "rows kept as they were" in facts["token_router"]["how"]
    assert not (out / MOMENTS_JSON).exists()


def test_a_model_without_moments_is_fitted_on_documents_of_all(run, made, composed, experts, tmp_path):
    model = shutil.copytree(made("python", "java"), tmp_path / "model")
    (model / MOMENTS_JSON).unlink()
    out, _ = run(model, Change("cpp", experts["cpp"]))
    close(gates(out), gates(composed))
    assert list(read_moments(out, 64).languages) == list(LANGUAGES)


def test_the_penalty_is_that_of_before_unless_another_is_named(run, made, experts):
    two = made("python", "java", ridge=0.3)
    out, _ = run(two, Change("cpp", experts["cpp"]), prove=False)
    close(gates(out), gates(made("python", "java", "cpp", ridge=0.3)))
    out, _ = run(two, Change("cpp", experts["cpp"]), out="named", prove=False, ridge=0.01)
    close(gates(out), gates(made("python", "java", "cpp")))
    assert read_moments(out, 64).ridge == 0.01


def test_retention_is_what_the_written_routers_do_to_the_same_tokens(run, made, experts, documents, compose_config):
    """The oracle: each expert in plain transformers, the states that enter its feed-forward, the gates as written."""
    two = made("python", "java")
    out, facts = run(two, Change("cpp", experts["cpp"]))
    assert set(facts["retention"]) == {"python", "java"}
    for label, name in enumerate(("python", "java")):
        tokens = RouterTexts.read(documents, name, load_tokenizer(two), compose_config).calibration
        model, seen = load_model(experts[name], torch.float32), {0: [], 1: []}
        for layer in seen:
            module = model.model.layers[layer].post_attention_layernorm
            module.register_forward_hook(lambda _, __, output, rows=seen[layer]: rows.append(output[0]))
        with torch.no_grad():
            for row in tokens:
                model(row[None])
        figures = facts["retention"][name]
        assert figures["tokens"] == tokens.numel()
        for layer in seen:
            x = torch.cat(seen[layer]).double().numpy()
            key = f"model.layers.{layer}.block_sparse_moe.gate.weight"
            old, new = (np.argmax(x @ gates(folder)[key].double().numpy().T, axis=1) for folder in (two, out))
            assert figures["accuracy_before_by_layer"][layer] == pytest.approx(np.mean(old == label), abs=0.02)
            assert figures["accuracy_after_by_layer"][layer] == pytest.approx(np.mean(new == label), abs=0.02)
            assert figures["agreement_by_layer"][layer] == pytest.approx(np.mean(old == new), abs=0.02)


@pytest.fixture(scope="module")
def own_form(compose_config, compose_inputs, tmp_path_factory):
    """Experts in layer 1 alone, in our own form, with the generalist."""
    folder = tmp_path_factory.mktemp("own") / "compose"
    experts = {name: compose_inputs.experts[name] for name in ("python", "java")}
    config = compose_config.model_copy(update={"layers": "1", "generalist": True, "shared": "base", "prove": False})
    compose(config, replace(compose_inputs, experts=experts), folder)
    return folder


@pytest.fixture
def partial(vary, trunk, tmp_path):
    """A C++ expert that differs from the base in layer 1 alone."""
    return vary(trunk, tmp_path / "partial", 5, lambda name: ".layers.1.mlp." in name)


def test_it_works_in_our_own_form(run, own_form, partial):
    out, facts = run(own_form, Change("cpp", partial))
    assert facts["experts"] == ["python", "java", "generalist", "cpp"]
    assert json.loads((out / "config.json").read_text())["experts"] == facts["experts"]
    assert facts["form"]["name"] == "codechoir_moe"
    before, after = dict(open_checkpoint(own_form).items()), dict(open_checkpoint(out).items())
    assert before.keys() == after.keys()
    new = dict(open_checkpoint(partial).items())
    for name, tensor in before.items():
        if ".experts." in name:
            assert after[name][:3].numpy().tobytes() == tensor.numpy().tobytes()
            parts = ("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",)
            rows = [new[f"model.layers.1.mlp.{part}.weight"] for part in parts]
            assert torch.equal(after[name][3], torch.cat(rows))
        elif "router" not in name:
            assert torch.equal(after[name], tensor)
    (router,) = gates(out).values()
    assert not router[2].any() and router[[0, 1, 3]].any(dim=1).all()
    weight_FE = open_composed(out).prompt_router.weight_FE
    assert not weight_FE[:, 2].any() and weight_FE[:, [0, 1, 3]].any(dim=0).all()
    assert all(figure["max_abs_difference"] == 0 for figure in facts["proofs"]["fixed_route"].values())
    assert facts["prompt_router"]["after"]["accuracy"]["512"] == 1
    smaller, _ = run(out, Change("generalist"), out="smaller")
    assert open_composed(smaller).experts == ("python", "java", "cpp")


def test_a_refitted_router_reads_as_much_as_before_unless_another_length_is_named(run, made, experts):
    two = made("python", "java", prefix_tokens=100)
    assert open_composed(two).prompt_router.prefix_tokens == 100
    out, facts = run(two, Change("cpp", experts["cpp"]), prove=False)
    assert open_composed(out).prompt_router.prefix_tokens == 100
    assert list(facts["prompt_router"]["after"]["accuracy"]) == ["16", "32", "64", "100"]
    named, facts = run(two, Change("cpp", experts["cpp"]), out="named", prove=False, prefix_tokens=300)
    assert open_composed(named).prompt_router.prefix_tokens == 300
    assert list(facts["prompt_router"]["before"]["accuracy"]) == ["16", "32", "64", "100"]


def fallback_of(folder):
    router = open_composed(folder).prompt_router
    return str(router.fallback), router.confidence, router.generalist


def test_the_fallback_stays_unless_another_is_named(run, made, own_form, partial, experts):
    out, _ = run(own_form, Change("cpp", partial), out="added", prove=False)
    assert fallback_of(own_form) == fallback_of(out) == ("generalist", 0.7, 2)
    fewer, _ = run(out, Change("python"), None, out="fewer", prove=False)
    assert fallback_of(fewer) == ("generalist", 0.7, 1)
    gone, _ = run(out, Change("generalist"), out="gone", prove=False)
    assert fallback_of(gone) == ("top-2", 0.7, None)
    two = made("python", "java", prompt_fallback="none")
    kept, _ = run(two, Change("cpp", experts["cpp"]), out="kept", prove=False)
    assert fallback_of(kept)[0] == "none"
    named, _ = run(
        two, Change("cpp", experts["cpp"]), out="named", prove=False, prompt_fallback="top-2", prompt_confidence=0.8
    )
    assert fallback_of(named) == ("top-2", 0.8, None)


def test_a_router_that_has_read_nothing_goes_on_mixing_until_it_is_fitted(
    run, compose_config, compose_inputs, tmp_path
):
    chosen = {name: compose_inputs.experts[name] for name in ("python", "java")}
    unfitted = replace(compose_inputs, experts=chosen, documents=None)
    compose(compose_config.model_copy(update={"prove": False}), unfitted, tmp_path / "two")
    added = Change("cpp", compose_inputs.experts["cpp"])
    without, _ = run(tmp_path / "two", added, None, out="without", prove=False)
    assert fallback_of(without)[0] == "uniform"
    fitted, _ = run(tmp_path / "two", added, out="fitted", prove=False)
    assert fallback_of(fitted) == ("top-2", 0.7, None)


def test_a_fallback_that_leaves_is_refused(run, own_form, tmp_path):
    with pytest.raises(ConfigError, match="the model has none"):
        run(own_form, Change("generalist"), prompt_fallback="generalist")
    assert not (tmp_path / "out").exists()


def test_what_it_is_made_of_goes_along(run, composed, experts, tmp_path):
    before = read_manifest(composed).facts["made_of"]
    smaller, facts = run(composed, Change("java"), None, out="smaller", prove=False)
    assert facts["made_of"]["base"] == before["base"]
    assert facts["made_of"]["experts"] == {name: before["experts"][name] for name in ("python", "cpp")}
    expert = shutil.copytree(experts["java"], tmp_path / "expert")
    (expert / "LICENSE.txt").write_text("terms")
    _, facts = run(smaller, Change("java", expert), None, out="again", prove=False)
    assert facts["made_of"]["experts"]["java"]["licence"] == "other"
    assert facts["made_of"]["experts"]["cpp"] == before["experts"]["cpp"]


def test_an_export_in_our_own_form_grows_as_its_source_does(run, made, experts, only, tmp_path):
    two = made("python", "java")
    export(two, ExportRequest("hf", compare=False), tmp_path / "exported")
    documents = only("cpp")
    one, facts = run(two, Change("cpp", experts["cpp"]), documents, out="one", prove=False)
    other, same = run(tmp_path / "exported", Change("cpp", experts["cpp"]), documents, out="other", prove=False)
    assert "solved again from moments" in same["token_router"]["how"]
    assert same["token_router"] == facts["token_router"] and same["made_of"] == facts["made_of"]
    for a, b in zip(sorted(gates(one).items()), sorted(gates(other).items()), strict=True):
        assert torch.equal(a[1], b[1])
    assert (one / MOMENTS_TENSORS).read_bytes() == (other / MOMENTS_TENSORS).read_bytes()
    assert fallback_of(one) == fallback_of(other)


@pytest.fixture(scope="module")
def biased(random_base, vary, tmp_path_factory):
    """SantaCoder's architecture, small: multi-query attention, GELU experts with biases, tied embeddings."""
    folder = tmp_path_factory.mktemp("biased")
    sizes = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "vocab_size": 257, "n_positions": 128}
    config = AutoConfig.for_model("gpt_bigcode", **sizes, multi_query=True, bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / "made")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(random_base / name, folder / "made" / name)
    trunk = vary(folder / "made", folder / "trunk", 1, lambda name: "ln_" not in name)
    return trunk, {
        name: vary(trunk, folder / name, seed, lambda tensor: ".mlp." in tensor)
        for seed, name in enumerate(LANGUAGES, 2)
    }


def test_biases_of_packed_experts_go_along(run, biased, compose_config, tmp_path):
    trunk, experts = biased
    for names in (("python", "java"), LANGUAGES):
        chosen = {name: experts[name] for name in names}
        out = tmp_path / str(len(names))
        compose(compose_config.model_copy(update={"prove": False}), ComposeInputs(trunk, chosen, None, {}), out)
    out, facts = run(tmp_path / "2", Change("cpp", experts["cpp"]), None)
    assert tensor_bytes(out) == tensor_bytes(tmp_path / "3")
    assert (out / "config.json").read_text() == (tmp_path / "3" / "config.json").read_text()
    assert facts["proofs"]["fixed_route"]["cpp"]["max_abs_difference"] == 0
    smaller, _ = run(out, Change("python"), None, out="smaller")
    packed = open_checkpoint(smaller).read("transformer.h.1.mlp.experts.up_proj_bias")
    for row, name in enumerate(("java", "cpp")):
        assert torch.equal(packed[row], open_checkpoint(experts[name]).read("transformer.h.1.mlp.c_fc.bias"))


def test_an_adapter_is_merged_into_the_generalist_or_refused(run, own_form, composed, tmp_path, trunk):
    folder, up = tmp_path / "adapter", "model.layers.1.mlp.up_proj"
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 64, generator=generator), torch.randn(128, 2, generator=generator)
    pair = {f"base_model.model.{up}.lora_A.weight": a, f"base_model.model.{up}.lora_B.weight": b}
    save_file(pair, folder / "adapter_model.safetensors")
    out, _ = run(own_form, Change("cpp", folder))
    packed = open_checkpoint(out).read("model.layers.1.mlp.experts.gate_up_proj")
    expected = open_checkpoint(trunk).read(f"{up}.weight") + 3 * (b @ a)
    torch.testing.assert_close(packed[3, 128:], expected)
    with pytest.raises(IncompatibleModelError, match="an adapter needs"):
        run(composed, Change("rust", folder), None, out="refused")


def test_routers_that_were_never_fitted_go_on_mixing_all(run, trunk, experts, compose_config, tmp_path):
    two = {name: experts[name] for name in ("python", "java")}
    compose(compose_config, ComposeInputs(trunk, two, None, {}), tmp_path / "two")
    out, facts = run(tmp_path / "two", Change("cpp", experts["cpp"]), None)
    assert json.loads((out / "config.json").read_text())["num_experts_per_tok"] == 3
    assert not any(tensor.any() for tensor in gates(out).values())
    assert facts["proofs"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change("rust"), "no such expert"),
        (Change("java", "experts"), "already has this expert"),
    ],
)
def test_changes_that_cannot_be(run, composed, experts, change, said, tmp_path):
    folder = experts["java"] if change.folder else None
    with pytest.raises(ConfigError, match=said):
        run(composed, replace(change, folder=folder))
    assert not (tmp_path / "out").exists()


def test_two_experts_stay(run, made, tmp_path):
    with pytest.raises(ConfigError, match="at least two experts"):
        run(made("python", "java"), Change("java"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"top_k": 1}, "top_k"),
        ({"own_share": 0.5}, "own_share"),
        ({"layers": "1"}, "layers"),
        ({"shared": "mean"}, "the mean would change"),
    ],
)
def test_what_the_model_decides_is_not_to_be_set(run, composed, settings, said):
    with pytest.raises(ConfigError, match=said):
        run(composed, Change("java"), **settings)


@pytest.mark.parametrize(
    ("with_documents", "settings", "said"),
    [
        (True, {"sequence_length": 2049}, "compose.sequence_length 2049"),
        (False, {"proof_tokens": 2049}, "compose.proof_tokens 2049"),
    ],
)
def test_text_beyond_the_models_positions_is_refused(
    run, composed, documents, tmp_path, with_documents, settings, said
):
    given = documents if with_documents else None
    with pytest.raises(ConfigError, match=f"{said}(?s:.*)at most 2048"):
        run(composed, Change("java"), given, **settings)
    assert not (tmp_path / "out").exists()
    if not with_documents:
        run(composed, Change("java"), None, prove=False, sequence_length=2049, **settings)


def test_a_drifted_expert_is_refused_unless_the_models_own_weights_are_to_count(run, made, experts, vary, tmp_path):
    drifted = vary(experts["cpp"], tmp_path / "drifted", 3, lambda name: name == "model.norm.weight")
    two = made("python", "java")
    with pytest.raises(IncompatibleModelError, match="outside its feed-forward"):
        run(two, Change("cpp", drifted))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]
    out, facts = run(two, Change("cpp", drifted), shared="base")
    assert list(facts["drift"]["tensors"]["model.norm.weight"]) == ["cpp"]
    norm = open_checkpoint(out).read("model.norm.weight")
    assert torch.equal(norm, open_checkpoint(two).read("model.norm.weight"))


def test_the_model_is_never_its_own_output(compose_config, composed):
    with pytest.raises(InputError, match="its own folder"):
        grow(compose_config, GrowInputs(composed, None, {}), Change("java"), composed)
    assert (composed / "config.json").exists()


def test_documents_without_the_new_language_are_told(run, made, experts, only):
    with pytest.raises(InputError, match="cpp"):
        run(made("python", "java"), Change("cpp", experts["cpp"]), only("python"))


def test_what_is_finished_is_not_done_again(run, composed):
    out, facts = run(composed, Change("java"), None)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert run(composed, Change("java"), None) == (out, facts)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
