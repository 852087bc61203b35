"""Every way to train, for every family: what moves, where the backward pass stops, what is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.compose.adapters import open_adapter
from codechoir.errors import ConfigError, ToolMissingError
from codechoir.model.checkpoint import load_model, open_checkpoint
from codechoir.model.names import names_of
from codechoir.train.config import TrainConfig, Way
from codechoir.train.loss import PackedLoss, counted
from codechoir.train.ways import Subject, load_subject, write_result

_SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
_GPT = {"n_embd": 16, "n_inner": 24, "n_layer": 3, "n_head": 2, "vocab_size": 64, "n_positions": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SIZES | {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "mistral": _SIZES | {"num_key_value_heads": 1},
    "qwen2": _SIZES | {"num_key_value_heads": 1},
    "qwen3": _SIZES | {"num_key_value_heads": 1, "head_dim": 8},
    "olmo2": _SIZES | {"num_key_value_heads": 1},
    "gemma": _SIZES | {"num_key_value_heads": 1, "head_dim": 8},
    "gemma2": _SIZES | {"num_key_value_heads": 1, "head_dim": 8},
    "gemma3_text": _SIZES | {"num_key_value_heads": 1, "head_dim": 8},
    "starcoder2": _SIZES | {"num_key_value_heads": 1},
    "phi": _SIZES | {"partial_rotary_factor": 0.5},
    "gpt_bigcode": _GPT | {"multi_query": True},
    "codegen": _GPT | {"n_head": 4, "rotary_dim": 4},
    "gpt_neox": _SIZES,
    "stablelm": _SIZES | {"num_key_value_heads": 1},
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
CONFIG = TrainConfig(lora_rank=2, last_layers=1)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **FAMILIES[request.param], **_SPECIAL)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def gradients(subject: Subject) -> set[str]:
    """The parameters that a backward pass reaches."""
    tokens_BT = torch.randint(1, 64, (1, 12), generator=torch.Generator().manual_seed(2))
    positions_BT = torch.arange(12)[None] % 7
    PackedLoss(subject.model)(tokens_BT, positions_BT, counted(positions_BT.clone())).backward()
    return {name for name, parameter in subject.model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
@pytest.mark.parametrize("way", ["feed-forward", "last-layers", "all", "lora"])
def test_what_moves_and_what_is_written(family: Path, way: Way, tmp_path: Path) -> None:
    subject = load_subject(family, way, CONFIG, torch.float32)
    trained = subject.trained()
    assert gradients(subject) == trained.keys()
    whole = names_of(load_model(family, torch.float32))
    told = subject.family
    feed_forward = {name for name in whole.weights if told.is_feed_forward(name)}
    expected = {
        "feed-forward": feed_forward,
        "last-layers": {name for name in whole.weights if name.startswith(f"{told.layers}.2.")},
        "all": whole.weights - whole.tied.keys(),
        "lora": set(),
    }[way]
    masters = {name: parameter.detach().float() + 0.125 for name, parameter in trained.items()}
    before = open_checkpoint(family)
    write_result(subject, masters, CONFIG, tmp_path)
    if way != "lora":
        assert trained.keys() == expected
        after = load_file(tmp_path / "model.safetensors")
        assert after.keys() == before.files.keys()
        for stored, tensor in after.items():
            name = whole.of(stored)
            moved = whole.tied.get(name, name) in expected
            wanted = (before.read(stored) + 0.125).bfloat16() if moved else before.read(stored)
            assert torch.equal(tensor, wanted), stored
        return
    assert {name.rpartition(".lora_")[0] + ".weight" for name in trained} == {
        name for name in feed_forward if name.endswith(".weight")
    }
    # PEFT reads the adapter back to the logits of the model in training; compose's own reader merges the same tensors.
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(masters[name])
    tokens = torch.arange(1, 11)[None]
    base = load_model(family, torch.float32)
    rename = names_of(base).of
    adapter = open_adapter(tmp_path, {name: tuple(t.shape) for name, t in base.state_dict().items()}, rename)
    merged = {name: adapter.read(name, base.state_dict()[name]) for name in adapter.pairs}
    peft = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    with torch.no_grad():
        ours = subject.model.eval()(tokens, use_cache=False).logits
        torch.testing.assert_close(peft(input_ids=tokens, use_cache=False).logits, ours, rtol=1e-4, atol=1e-4)
        again = load_model(family, torch.float32)
        again.load_state_dict(merged, strict=False)
        torch.testing.assert_close(again(tokens, use_cache=False).logits, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_the_backward_pass_stops_at_the_lowest_trained_layer(family: Path) -> None:
    """States below the last layer never ask for a gradient; with checkpointing the gradients stay the same."""
    subject = load_subject(family, "last-layers", CONFIG, torch.float32)
    seen = []
    for layer in subject.layers:
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out.requires_grad))
    gradients(subject)
    assert seen[-3:] == [False, False, True]
    plain = load_subject(family, "feed-forward", CONFIG, torch.float32)
    again = load_subject(
        family, "feed-forward", CONFIG.model_copy(update={"gradient_checkpointing": True}), torch.float32
    )
    assert gradients(plain) == gradients(again)
    for name, parameter in plain.trained().items():
        torch.testing.assert_close(again.trained()[name].grad, parameter.grad)


@pytest.mark.parametrize(
    ("model_type", "dropout"),
    [
        ("gpt_bigcode", {}),  # 0.1 each, by default
        ("phi", {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attention_dropout": 0.2}),
        ("seed_oss", {"residual_dropout": 0.2, "attention_dropout": 0.2, "head_dim": 8, "num_key_value_heads": 1}),
    ],
)
def test_nothing_is_dropped_and_the_config_stays(model_type: str, dropout: dict[str, Any], tmp_path: Path) -> None:
    config = AutoConfig.for_model(model_type, **FAMILIES.get(model_type, _SIZES) | _SPECIAL | dropout)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    subject = load_subject(tmp_path / "base", "all", CONFIG, torch.float32)
    tokens = torch.arange(1, 33).view(2, 16)
    with torch.no_grad():
        expected = load_model(tmp_path / "base", torch.float32)(tokens, use_cache=False).logits
        assert subject.model.training
        torch.testing.assert_close(subject.model(tokens, use_cache=False).logits, expected)
    masters = {name: parameter.detach() for name, parameter in subject.trained().items()}
    write_result(subject, masters, CONFIG, tmp_path / "out")
    before, after = (open_checkpoint(tmp_path / folder).config for folder in ("base", "out"))
    dropped = {name: value for name, value in before.items() if "drop" in name}
    assert any(dropped.values())
    assert {name: value for name, value in after.items() if "drop" in name} == dropped


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_what_cannot_be_trained(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="more layers"):
        load_subject(family, "last-layers", CONFIG.model_copy(update={"last_layers": 4}), torch.float32)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ToolMissingError, match="PEFT") as caught:
        load_subject(family, "lora", CONFIG, torch.float32)
    assert "codechoir[peft]" in caught.value.next_step
