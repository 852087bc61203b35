"""What experts may be, the policies for what they share, and that nothing is dropped: plan, write, read back."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from codechoir.compose.config import ComposeConfig
from codechoir.compose.experts import Kind
from codechoir.compose.plan import Form, Part, chosen_layers, plan
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.weights import Weights
from codechoir.errors import ConfigError, IncompatibleModelError, InputError
from codechoir.model.checkpoint import open_checkpoint, write_checkpoint
from codechoir.model.moe import open_composed

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
QUICK = ComposeConfig(prove=False)


def is_feed_forward(name):
    return ".mlp." in name


@pytest.fixture
def changed(experts, tmp_path):
    """`changed(change, language, **config)`: that expert's folder with other tensors or another config."""

    def write(change, language="java", **config):
        checkpoint = open_checkpoint(experts[language])
        tensors = dict(checkpoint.items())
        change(tensors)
        folder = tmp_path / f"changed-{language}"
        write_checkpoint(folder, checkpoint.config | config, tensors, tokenizer=experts[language])
        return folder

    return write


@pytest.fixture
def only_second(trunk, experts, vary, tmp_path):
    """Experts that differ from the trunk in the second layer alone."""
    return {
        name: vary(trunk, tmp_path / name, seed, lambda tensor: "layers.1.mlp" in tensor)
        for seed, name in enumerate(experts, 7)
    }


def written(trunk, experts, out, **settings):
    config = QUICK.model_copy(update=settings)
    manifest = compose(config, ComposeInputs(trunk, experts, None, {}), out)
    return load_file(out / "model.safetensors"), manifest.facts


def expert_name(layer, index, short):
    return f"model.layers.{layer}.block_sparse_moe.experts.{index}.{short}.weight"


def test_feed_forward_weights_alone_are_an_expert(trunk, experts, tmp_path):
    held = {name: tensor for name, tensor in open_checkpoint(experts["java"]).items() if is_feed_forward(name)}
    folder = tmp_path / "java"
    folder.mkdir()
    save_file(held, folder / "model.safetensors")
    bare = experts | {"java": folder}
    assert plan(trunk, bare).experts["java"].kind is Kind.FEED_FORWARD
    tensors, _ = written(trunk, bare, tmp_path / "bare")
    expected, _ = written(trunk, experts, tmp_path / "full")
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_a_folder_of_feed_forward_weights_that_lacks_one_is_refused(trunk, experts, tmp_path):
    held = {name: tensor for name, tensor in open_checkpoint(experts["java"]).items() if is_feed_forward(name)}
    del held[UP]
    (tmp_path / "java").mkdir()
    save_file(held, tmp_path / "java" / "model.safetensors")
    with pytest.raises(IncompatibleModelError, match="only in the base") as refused:
        plan(trunk, experts | {"java": tmp_path / "java"})
    assert UP in str(refused.value)


def test_a_folder_without_a_config_that_holds_more_is_refused(trunk, experts, tmp_path):
    folder = shutil.copytree(experts["java"], tmp_path / "java")
    (folder / "config.json").unlink()
    with pytest.raises(IncompatibleModelError, match="neither a model folder nor feed-forward weights"):
        plan(trunk, experts | {"java": folder})


def lora(folder, modules, seed=0):
    """A PEFT folder of rank 2 over the trunk's modules of that name."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (rows, columns) in modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    return tensors


MLP = {
    f"model.layers.{layer}.mlp.{module}": shape
    for layer in (0, 1)
    for module, shape in (("gate_proj", (128, 64)), ("up_proj", (128, 64)), ("down_proj", (64, 128)))
}


def test_an_adapter_is_merged_and_proven(trunk, experts, tmp_path):
    tensors = lora(tmp_path / "java", MLP)
    adapted = experts | {"java": tmp_path / "java"}
    found, facts = written(trunk, adapted, tmp_path / "out", prove=True)
    base = load_file(trunk / "model.safetensors")
    for layer, short, module in ((0, "w1", "gate_proj"), (1, "w2", "down_proj"), (1, "w3", "up_proj")):
        name = f"model.layers.{layer}.mlp.{module}"
        a, b = (tensors[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
        torch.testing.assert_close(found[expert_name(layer, 1, short)], base[f"{name}.weight"] + 2 * (b @ a))
    assert facts["proofs"]["fixed_route"]["java"]["max_abs_difference"] == 0
    assert facts["drift"]["tensors"] == {}


def test_an_adapter_on_attention_goes_by_the_policy(trunk, experts, tmp_path):
    tensors = lora(tmp_path / "java", MLP | {Q.removesuffix(".weight"): (64, 64)})
    adapted = experts | {"java": tmp_path / "java"}
    with pytest.raises(IncompatibleModelError, match="outside its feed-forward") as refused:
        written(trunk, adapted, tmp_path / "equal")
    assert Q in str(refused.value) and "adapter_model.safetensors" in str(refused.value)
    base = load_file(trunk / "model.safetensors")[Q]
    kept, _ = written(trunk, adapted, tmp_path / "base", shared="base")
    assert torch.equal(kept[Q], base)
    mean, facts = written(trunk, adapted, tmp_path / "mean", shared="mean")
    prefix = f"base_model.model.{Q.removesuffix('.weight')}."
    delta = 2 * (tensors[f"{prefix}lora_B.weight"] @ tensors[f"{prefix}lora_A.weight"])
    torch.testing.assert_close(mean[Q], base + delta / 3)
    assert set(facts["drift"]["tensors"]) == {Q}


def test_drifted_weights_go_by_the_policy_and_are_reported(trunk, experts, changed, tmp_path):
    java = changed(lambda tensors: tensors[Q].add_(0.5))
    cpp = changed(lambda tensors: tensors[Q].sub_(0.25), "cpp")
    drifted = experts | {"java": java, "cpp": cpp}
    base = load_file(trunk / "model.safetensors")[Q]
    kept, facts = written(trunk, drifted, tmp_path / "base", shared="base", prove=True)
    assert torch.equal(kept[Q], base)
    found = facts["drift"]["tensors"]
    assert set(found) == {Q} and set(found[Q]) == {"java", "cpp"}
    assert found[Q]["java"]["max_abs"] == pytest.approx(0.5, abs=1e-6)
    assert found[Q]["cpp"]["relative"] == pytest.approx(0.25 / float(base.abs().max()), rel=1e-5)
    assert facts["drift"]["equal_tensors"] == len(base_shared(trunk)) - 1
    mean, facts = written(trunk, drifted, tmp_path / "mean", shared="mean", prove=True)
    torch.testing.assert_close(mean[Q], base + 0.25 / 3)
    assert all(figure["max_abs_difference"] == 0 for figure in facts["proofs"]["fixed_route"].values())
    assert facts["proofs"]["identical_experts"]["relative"] < 1e-5


def base_shared(trunk):
    return [name for name in load_file(trunk / "model.safetensors") if not is_feed_forward(name)]


def test_a_mean_of_equal_weights_is_bit_for_bit_the_base(trunk, experts, tmp_path):
    tensors, _ = written(trunk, experts, tmp_path / "out", shared="mean")
    base = load_file(trunk / "model.safetensors")
    assert all(torch.equal(tensors[name], base[name]) for name in base_shared(trunk))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("name", "share"), [(UP, 1.0), (UP, 0.5), (Q, 1.0)])
def test_a_weight_that_is_not_finite_is_refused_with_its_file(trunk, experts, changed, tmp_path, value, name, share):
    java = changed(lambda tensors: tensors[name].view(-1)[-1:].fill_(float(value)))
    with pytest.raises(IncompatibleModelError, match="not finite") as refused:
        written(trunk, experts | {"java": java}, tmp_path / "out", shared="mean", own_share=share)
    assert name in str(refused.value) and str(java / "model.safetensors") in str(refused.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]


def test_an_expert_in_another_number_format_is_refused(trunk, experts, changed):
    def halve(tensors):
        tensors |= {name: tensor.bfloat16() for name, tensor in tensors.items()}

    with pytest.raises(IncompatibleModelError, match="another number format") as refused:
        plan(trunk, experts | {"java": changed(halve)})
    assert "torch.bfloat16" in str(refused.value) and "torch.float32" in str(refused.value)


def test_a_truncated_shard_is_told_before_anything_is_written(trunk, experts, tmp_path):
    folder = shutil.copytree(experts["java"], tmp_path / "java")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged"):
        written(trunk, experts | {"java": folder}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tied_head_that_is_stored_is_left_out_and_a_different_one_refused(trunk, experts, changed, tmp_path):
    def add_head(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    java = changed(add_head)
    tensors, _ = written(trunk, experts | {"java": java}, tmp_path / "out")
    assert "lm_head.weight" not in tensors

    def add_another(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2

    with pytest.raises(IncompatibleModelError, match="ties to another"):
        written(trunk, experts | {"java": changed(add_another)}, tmp_path / "again")


def test_the_base_is_the_generalist(trunk, experts, tmp_path):
    tensors, facts = written(trunk, experts, tmp_path / "out", generalist=True, prove=True)
    assert facts["experts"] == ["python", "java", "cpp", "generalist"]
    base = load_file(trunk / "model.safetensors")
    assert torch.equal(tensors[expert_name(1, 3, "w3")], base[UP])
    assert facts["proofs"]["fixed_route"]["generalist"]["max_abs_difference"] == 0
    assert open_composed(tmp_path / "out").experts[-1] == "generalist"


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("settings", [{}, {"generalist": True}, {"shared": "mean"}])
def test_experts_are_drawn_toward_their_average_and_proven(trunk, experts, tmp_path, share, settings):
    lora(tmp_path / "java", MLP)
    mixed = experts | {"java": tmp_path / "java"}
    whole, _ = written(trunk, mixed, tmp_path / "whole", **settings)
    found, facts = written(trunk, mixed, tmp_path / "out", own_share=share, prove=True, **settings)
    base = load_file(trunk / "model.safetensors")
    for layer, short, module in ((0, "w1", "gate_proj"), (1, "w2", "down_proj"), (1, "w3", "up_proj")):
        trained = [whole[expert_name(layer, index, short)].numpy().astype(np.float64) for index in range(3)]
        for index, own in enumerate(trained):
            expected = share * own + (1 - share) * np.mean(trained, axis=0)
            np.testing.assert_allclose(found[expert_name(layer, index, short)].numpy(), expected, rtol=1e-5, atol=1e-6)
        if "generalist" in settings:
            name = f"model.layers.{layer}.mlp.{module}.weight"
            assert torch.equal(found[expert_name(layer, 3, short)], base[name])
    assert all(figure["max_abs_difference"] == 0 for figure in facts["proofs"]["fixed_route"].values())
    assert all(torch.equal(found[name], whole[name]) for name in base_shared(trunk))


def test_layers_without_experts_are_not_drawn_together(trunk, experts, only_second, tmp_path):
    tensors, _ = written(trunk, only_second, tmp_path / "out", layers="1", own_share=0.3)
    base = load_file(trunk / "model.safetensors")
    assert torch.equal(tensors["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])
    trained = torch.stack([load_file(only_second[name] / "model.safetensors")[UP].double() for name in experts])
    expected = 0.3 * trained[2] + 0.7 * trained.mean(0)
    torch.testing.assert_close(tensors["model.layers.1.mlp.experts.gate_up_proj"][2, 128:], expected.float())


def test_one_expert_and_the_generalist_are_enough(trunk, experts):
    found = plan(trunk, {"python": experts["python"]}, ComposeConfig(generalist=True))
    assert list(found.experts) == ["python", "generalist"]


def test_some_layers_get_experts_and_the_others_are_shared(trunk, experts, only_second, tmp_path):
    tensors, facts = written(trunk, only_second, tmp_path / "out", layers="1", prove=True)
    assert facts["form"]["name"] == Form.OWN and "1 of 2" in facts["form"]["why"]
    base = load_file(trunk / "model.safetensors")
    assert torch.equal(tensors["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])
    packed = tensors["model.layers.1.mlp.experts.gate_up_proj"]
    assert torch.equal(packed[2, 128:], load_file(only_second["cpp"] / "model.safetensors")[UP])
    assert facts["proofs"]["identical_experts"]["relative"] < 1e-5
    with pytest.raises(IncompatibleModelError, match=r"layers\.0\.mlp"):
        written(trunk, experts, tmp_path / "refused", layers="1")


@pytest.mark.parametrize(
    ("text", "expected"), [("all", (0, 1, 2, 3)), ("1", (1,)), ("0-1,3", (0, 1, 3)), (" 2 - 3 , 2", (2, 3))]
)
def test_layers_are_named_by_numbers_and_ranges(text, expected):
    assert chosen_layers(text, 4) == expected


@pytest.mark.parametrize("text", ["", "4", "3-1", "0-4", "a", "-1", "1,,2"])
def test_layers_that_there_are_not_are_refused(text):
    with pytest.raises(ConfigError, match="from 0 to 3"):
        chosen_layers(text, 4)


def test_every_tensor_is_consumed_once(trunk, experts):
    """All of the experts' feed-forward tensors and all shared ones appear among the outputs' sources."""
    for settings in ({}, {"layers": "0"}):
        found = plan(trunk, experts, ComposeConfig(**settings))
        packed = found.form is Form.OWN
        used = [
            (language, source)
            for output in found.outputs
            if output.part is Part.EXPERTS
            for language in (found.experts if packed else [output.expert])
            for source in output.sources
        ]
        assert sorted(used) == sorted((name, tensor) for name in experts for tensor in found.feed_forward_names())
        shared = [output.sources[0] for output in found.outputs if output.part is Part.SHARED]
        assert sorted(shared) == sorted(found.shared_names())


def test_a_shared_tensor_is_compared_by_value(trunk, experts, changed):
    def widen(tensors):
        tensors |= {name: tensor.double() for name, tensor in tensors.items() if not is_feed_forward(name)}

    weights = Weights(plan(trunk, experts | {"java": changed(widen)}))
    assert torch.equal(weights.shared(Q), open_checkpoint(trunk).read(Q))
    assert weights.drift == {}


def test_other_special_tokens_are_refused_or_reported(trunk, experts, tmp_path):
    folder = shutil.copytree(experts["java"], tmp_path / "java")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    token = next(value for key, value in config.items() if key == "eos_token")
    path.write_text(json.dumps(config | {"eos_token": "<|other|>"}))
    with pytest.raises(IncompatibleModelError, match="other special tokens") as refused:
        plan(trunk, experts | {"java": folder})
    assert "<|other|>" in str(refused.value)
    found = plan(trunk, experts | {"java": folder}, ComposeConfig(shared="base"))
    assert found.special_tokens == {"java": {"eos_token": {"base": token, "expert": "<|other|>"}}}


def test_shards_are_as_large_as_told(trunk, experts, tmp_path):
    compose(
        QUICK.model_copy(update={"shard_bytes": 100_000}), ComposeInputs(trunk, experts, None, {}), tmp_path / "many"
    )
    tensors, _ = written(trunk, experts, tmp_path / "one")
    many = open_checkpoint(tmp_path / "many")
    assert len(set(many.files.values())) > 3
    assert {name: tensor.tolist() for name, tensor in many.items()} == {n: t.tolist() for n, t in tensors.items()}
