"""Adapters of experts, put on their base by PEFT itself."""

import json

import pytest
import torch
from safetensors.torch import load_file

from codechoir.compose.export.peft_adapter import plan_peft, write_adapter
from codechoir.compose.export.source import open_source
from codechoir.compose.export.stage import ExportRequest, export
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.errors import ConfigError, IncompatibleModelError
from codechoir.model.checkpoint import load_model, open_checkpoint, write_checkpoint

RANK = 3


@pytest.fixture(scope="module")
def low_rank(made, compose_config, tmp_path_factory):
    """`low_rank(dtype)`: a composed model with a generalist whose experts' changes have rank 3, and its base."""
    done = {}

    def make(dtype):
        if dtype in done:
            return done[dtype]
        folder = tmp_path_factory.mktemp("low-rank")
        trunk = made("qwen2")[0].parent / "trunk"
        base = open_checkpoint(trunk)
        config = base.config | {"dtype": str(dtype).removeprefix("torch.")}
        plain = {name: tensor.to(dtype) for name, tensor in base.items()}
        write_checkpoint(folder / "base", config, plain, trunk)
        experts = {}
        for seed, language in enumerate(("python", "java")):
            generator = torch.Generator().manual_seed(seed)
            tensors = dict(plain)
            for name, tensor in plain.items():
                if ".mlp." in name:
                    pair = [
                        torch.randn(shape, generator=generator)
                        for shape in ((len(tensor), RANK), (RANK, tensor.shape[1]))
                    ]
                    tensors[name] = (tensor.float() + 0.05 * pair[0] @ pair[1]).to(dtype)
            write_checkpoint(folder / language, config, tensors, trunk)
            experts[language] = folder / language
        settings = compose_config.model_copy(update={"prove": False, "generalist": True})
        compose(settings, ComposeInputs(folder / "base", experts, None, {"all": str(dtype)}), folder / "composed")
        done[dtype] = folder / "composed", folder / "base", experts
        return done[dtype]

    return make


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing")  # PEFT asks for it
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [True, False], ids=["base", "generalist"])
def test_an_expert_of_low_rank_is_an_adapter_of_that_rank(low_rank, tmp_path, dtype, given):
    peft = pytest.importorskip("peft")
    composed, base, experts = low_rank(dtype)
    facts = export(composed, ExportRequest("peft", "java", base=base if given else None), tmp_path / "out").facts
    assert (facts["rank"], facts["truncated"]) == (RANK, False)
    assert facts["logits"]["reader"].startswith("PEFT")
    assert facts["logits"]["relative"] < (1e-5 if dtype is torch.float32 else 5e-2)
    model = peft.PeftModel.from_pretrained(load_model(base, torch.float32), tmp_path / "out")
    merged = model.merge_and_unload().state_dict()
    for name, tensor in load_file(experts["java"] / "model.safetensors").items():
        bound = 1e-5 if dtype is torch.float32 else 2e-3  # half a step of bfloat16 at these weights
        torch.testing.assert_close(merged[name], tensor.float(), rtol=bound, atol=bound)


def test_a_full_change_is_refused_or_cut_with_its_loss_told(made, tmp_path):
    composed, experts = made("qwen2")
    trunk = composed.parent / "trunk"
    with pytest.raises(IncompatibleModelError, match=r"cannot be exported as peft[\s\S]*rank 32 of 32"):
        export(composed, ExportRequest("peft", "java", base=trunk), tmp_path / "out")
    source = open_source(composed)
    figures = write_adapter(plan_peft(source, "java", 4, trunk), tmp_path)
    assert figures["rank"] == 4 and figures["truncated"]
    held = load_file(tmp_path / "adapter_model.safetensors")
    own, base = load_file(experts["java"] / "model.safetensors"), load_file(trunk / "model.safetensors")
    shares = {}
    for name in own:
        if ".mlp." in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            made_by = held[f"{module}.lora_B.weight"] @ held[f"{module}.lora_A.weight"]
            change = own[name] - base[name]
            shares[name] = float((change - made_by).norm() / change.norm())
    assert figures["largest_share_lost"] == pytest.approx(max(shares.values()), abs=1e-5)
    assert shares[figures["lost_in"]] == pytest.approx(max(shares.values()), abs=1e-5)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4


def test_without_its_base_an_adapter_is_refused(made, low_rank):
    source = open_source(made("qwen2")[0])
    with pytest.raises(ConfigError, match=r"no generalist[\s\S]*--base"):
        plan_peft(source, "java", None, None)
    with pytest.raises(IncompatibleModelError, match=r"the base .* has"):
        plan_peft(source, "java", None, made("llama")[0].parent / "trunk")
    with pytest.raises(IncompatibleModelError, match="the base itself"):
        plan_peft(open_source(low_rank(torch.float32)[0]), "generalist", None, None)


def test_another_base_is_refused(made, vary, tmp_path):
    composed, _ = made("qwen2")
    other = vary(composed.parent / "trunk", tmp_path / "other", 7, lambda name: name == "model.norm.weight")
    (tmp_path / "out").mkdir()
    with pytest.raises(IncompatibleModelError, match=r"model\.norm\.weight is not the base's"):
        write_adapter(plan_peft(open_source(composed), "java", 4, other), tmp_path / "out")


def test_biases_that_changed_are_refused(made, tmp_path):
    composed, _ = made("starcoder2")
    with pytest.raises(IncompatibleModelError, match="bias differs"):
        write_adapter(plan_peft(open_source(composed), "java", 4, composed.parent / "trunk"), tmp_path)
