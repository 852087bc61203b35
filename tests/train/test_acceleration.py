"""Packed attention and compiled layers against transformers' own attention with a mask, family by family."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import library, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    GPTBigCodeConfig,
    GraniteSWAConfig,
    LlamaConfig,
    NemotronConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3_5TextConfig,
    StableLmConfig,
    Starcoder2Config,
)

from codechoir.errors import IncompatibleModelError
from codechoir.model import document_attention as document_attention_module
from codechoir.model import packed_attention
from codechoir.model.compilation import pays_to_compile
from codechoir.model.device import compute_device
from codechoir.model.document_attention import document_attention
from codechoir.model.packed_attention import PACKED, document_ends
from codechoir.train.acceleration import accelerate
from codechoir.train.loss import PackedLoss, counted

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = SHAPE | {"num_key_value_heads": 2, "vocab_size": 97, "bos_token_id": 0, "eos_token_id": 0}
CONFIGS = [
    LlamaConfig(**GROUPED),
    Qwen2Config(**GROUPED),
    Starcoder2Config(**GROUPED, sliding_window=5),
    PhiConfig(**SHAPE, vocab_size=97, bos_token_id=0, eos_token_id=0),
    GPTBigCodeConfig(n_embd=64, n_layer=3, n_head=4, vocab_size=97, n_positions=64, bos_token_id=0, eos_token_id=0),
]
TOKENS_BT = torch.randint(97, (2, 24), generator=torch.Generator().manual_seed(0))
POSITIONS_BT = torch.stack([torch.cat([torch.arange(10), torch.arange(14)]), torch.arange(24)])


def model_of(config: PreTrainedConfig) -> Any:
    config = copy.deepcopy(config)  # which keeps the attention that its model was set to
    for dropout in ("attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(config, dropout):
            setattr(config, dropout, 0.0)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def loss_and_gradients(module: PackedLoss) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = module(TOKENS_BT, POSITIONS_BT, counted(POSITIONS_BT.clone()))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return loss.detach(), gradients


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_packed_attention_stays_inside_documents(config: PreTrainedConfig) -> None:
    module = PackedLoss(model_of(config))
    expected = loss_and_gradients(module)
    module.model.set_attn_implementation(PACKED)
    torch.testing.assert_close(loss_and_gradients(module), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [StableLmConfig, NemotronConfig])
def test_a_model_whose_layers_do_not_hand_on_the_ends_keeps_its_attention(config: Any) -> None:
    """And stays inside documents with it: the loss of a sequence of two is the sum of theirs."""
    model = model_of(config(**GROUPED))
    assert packed_attention._can_pack(model)
    accelerate(model, model.model.layers, compiled=False)
    assert document_ends(model, POSITIONS_BT) == {}
    module = PackedLoss(model)
    parts = [(slice(0, 1), slice(0, 10)), (slice(0, 1), slice(10, 24)), (slice(1, 2), slice(0, 24))]
    with torch.no_grad():
        apart = [module(TOKENS_BT[part], POSITIONS_BT[part], counted(POSITIONS_BT[part].clone())) for part in parts]
        together = module(TOKENS_BT, POSITIONS_BT, counted(POSITIONS_BT.clone()))
    torch.testing.assert_close(together, torch.stack(apart).sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sink", [0.0, -20.0])  # the second shows in nothing yet, but may learn
def test_attention_sinks_are_kept(sink: float) -> None:
    """Which take a share of a token's attention to nothing."""
    model = model_of(GraniteSWAConfig(**GROUPED))
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):
            parameter.data.fill_(sink)
    whole_BT = torch.arange(24).expand(2, -1)
    logits_BTV = model(input_ids=TOKENS_BT, use_cache=False).logits[:, :-1]
    expected = functional.cross_entropy(logits_BTV.flatten(0, 1), TOKENS_BT[:, 1:].flatten(), reduction="sum")
    accelerate(model, model.model.layers, compiled=False)
    assert document_ends(model, whole_BT) == {}
    torch.testing.assert_close(PackedLoss(model)(TOKENS_BT, whole_BT, counted(whole_BT.clone())), expected)


FALCON = FalconH1Config(
    **GROUPED, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, time_step_limit=[0.0, 1000.0]
)
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_carries_states_across_documents_is_refused(dtype: torch.dtype) -> None:
    model = model_of(FALCON).to(dtype)
    with pytest.raises(IncompatibleModelError, match="do not stay apart") as caught:
        accelerate(model, model.model.layers, compiled=False)
    assert caught.value.seen == "falcon_h1 (FalconH1ForCausalLM)"
    assert "documents" in caught.value.allowed
    assert caught.value.next_step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_goes_by_places_in_the_sequence_is_refused(dtype: torch.dtype) -> None:
    model = model_of(CONFIGS[-1]).to(dtype)
    positions: Any = model.transformer.wpe
    positions.register_forward_pre_hook(lambda _, given: (torch.arange(given[0].shape[-1])[None],))
    with pytest.raises(IncompatibleModelError, match="do not stay apart"):
        accelerate(model, model.transformer.h, compiled=False)


@pytest.mark.parametrize(("dtype", "refused"), [(torch.float32, True), (torch.bfloat16, False)])
def test_a_token_that_rounding_moves_far_is_no_reason_in_16_bits(dtype: torch.dtype, refused: bool) -> None:
    """A trained model's third token was seen 0.3 off by bfloat16's rounding alone, all others next to nothing."""
    model = model_of(CONFIGS[0]).to(dtype)

    def moved(_: nn.Module, __: Any, logits_BTV: torch.Tensor) -> torch.Tensor:
        is_packed = logits_BTV.shape[1] == sum(packed_attention._PROBE)
        return (
            torch.cat([logits_BTV[:, :2], 1.5 * logits_BTV[:, 2:3], logits_BTV[:, 3:]], 1) if is_packed else logits_BTV
        )

    model.lm_head.register_forward_hook(moved)
    with pytest.raises(IncompatibleModelError, match="do not stay apart") if refused else nullcontext():
        accelerate(model, model.model.layers, compiled=False)


def test_a_model_whose_forward_pass_fails_on_documents_is_refused() -> None:
    model = model_of(Qwen3_5TextConfig(**GROUPED | {"num_hidden_layers": 4}, head_dim=16, **DELTA))
    with pytest.raises(IncompatibleModelError, match="forward pass fails") as caught:
        accelerate(model, model.model.layers, compiled=False)
    assert "qwen3_5_text (Qwen3_5ForCausalLM): ValueError: " in str(caught.value.seen)


def test_memory_that_runs_out_is_no_fault_of_the_model() -> None:
    with pytest.raises(RuntimeError, match="allocate"), packed_attention.forward_told(model_of(CONFIGS[0])):
        torch.empty(2**60)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_what_is_tried_leaves_no_trace(config: PreTrainedConfig) -> None:
    model = model_of(config).train()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.5
    before = torch.get_rng_state()
    accelerate(model, next(part for part in model.modules() if isinstance(part, nn.ModuleList)), compiled=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.config._attn_implementation == PACKED


def test_where_each_document_ends() -> None:
    model = model_of(CONFIGS[0])
    assert document_ends(model, POSITIONS_BT) == {}
    model.set_attn_implementation(PACKED)
    told = document_ends(model, torch.tensor([[0, 1, 0, 1], [2, 3, 4, 0]]))  # the second row begins within a document
    assert told["cu_seq_lens_q"].tolist() == [0, 2, 4, 7, 8]
    assert told["max_length_q"] == 4


@pytest.mark.parametrize("window", [None, 1, 5])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_document_attention_is_attention_with_a_mask(
    dtype: torch.dtype, scale: float | None, window: int | None
) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 24, 16, dtype=dtype, requires_grad=True) for heads in (6, 2, 2))
    ends = torch.tensor([0, 7, 8, 24, 40, 48], dtype=torch.int32)
    found = document_attention(query, key, value, ends, scale, window)
    document_BT = torch.tensor([0] * 7 + [1] + [2] * 16 + [3] * 16 + [4] * 8).view(2, 24)
    distance_TT = torch.arange(24)[:, None] - torch.arange(24)
    seen_TT = (distance_TT >= 0) & (distance_TT < (window or 24))
    mask = ((document_BT[:, :, None] == document_BT[:, None, :]) & seen_TT)[:, None]
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=True)
    gradient = torch.randn_like(found)
    both = [torch.autograd.grad(out, (query, key, value), gradient) for out in (found, expected)]
    close = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {}  # both round on their way
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(*both, **close)


def test_documents_of_many_lengths_are_computed_in_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shape's products stay in memory, on 135M's shape some MB."""
    shapes = set()

    def recorded(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            shapes.add((operation, *(tuple(each.shape) for each in given if isinstance(each, torch.Tensor))))
            return operation(*given, **named)

        return call

    for name in ("_FLASH", "_FLASH_BACKWARD"):
        monkeypatch.setattr(document_attention_module, name, recorded(getattr(document_attention_module, name)))
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 190, (60,), generator=generator)
    query, key, value = (torch.randn(1, 1, int(lengths.sum()), 4, requires_grad=True) for _ in range(3))
    ends = functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    found = document_attention(query, key, value, ends, None, None)
    gradients = torch.autograd.grad(found.square().sum(), (query, key, value))
    assert len(shapes) == 2 * 3  # 64, 128, 192
    last = slice(int(ends[-2]), None)
    parts = [each[:, :, last].detach().requires_grad_() for each in (query, key, value)]
    expected = functional.scaled_dot_product_attention(*parts, is_causal=True)
    torch.testing.assert_close(found[:, :, last], expected)
    expected_gradients = torch.autograd.grad(expected.square().sum(), parts)
    torch.testing.assert_close([each[:, :, last] for each in gradients], list(expected_gradients))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_document_attention_is_an_operation_that_torch_can_compile() -> None:
    query, key, value = (torch.randn(2, heads, 12, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    ends = torch.tensor([0, 7, 12, 24], dtype=torch.int32)
    library.opcheck(torch.ops.codechoir.document_attention.default, (query, key, value, ends, None, 0))


def test_what_flash_attention_does_not_compute_is_left_to_others() -> None:
    config = Gemma2Config(**GROUPED, head_dim=16)
    model = model_of(config)
    assert not packed_attention._can_pack(model)
    accelerate(model, model.model.layers, compiled=False)
    assert document_ends(model, POSITIONS_BT) == {}
    model.config.attn_logit_softcapping = None
    assert packed_attention._can_pack(model)


def test_compiling_is_for_long_trainings() -> None:
    is_gpu = compute_device().type != "cpu"
    assert pays_to_compile(135_000_000, 200_000)
    assert pays_to_compile(135_000_000, 4_000) == is_gpu


NO_COMPILER = """
from transformers import LlamaConfig, LlamaForCausalLM
from codechoir.train.acceleration import accelerate
shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}
model = LlamaForCausalLM(LlamaConfig(**shape))
before = model.model.layers[0].forward
accelerate(model, model.model.layers, compiled=True)
assert model.model.layers[0].forward == before
"""


def test_a_machine_without_a_compiler_trains_all_the_same(tmp_path: Path) -> None:
    told = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", NO_COMPILER]  # torch remembers which compiler there is
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=True)
    assert "training without torch.compile, which fails here: No working C++ compiler found" in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_layers_are_compiled_once_and_compute_the_same() -> None:
    counters = torch._dynamo.utils.counters
    model = model_of(CONFIGS[0])
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".mlp." in name
    module = PackedLoss(model.train())
    expected = loss_and_gradients(module)
    for _ in range(2):  # again changes nothing
        accelerate(model, model.model.layers, compiled=True)
    counters.clear()
    torch.testing.assert_close(loss_and_gradients(module), expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 2  # the first layer's input needs no gradient
    whole_BT = torch.arange(24).expand(2, -1)
    module(TOKENS_BT, whole_BT, counted(whole_BT.clone())).backward()  # other documents
    with torch.no_grad():  # measured as it is
        module(TOKENS_BT[:, :7], POSITIONS_BT[:, :7], counted(POSITIONS_BT[:, :7].clone()))
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.filterwarnings("ignore::UserWarning")  # as above
def test_all_shapes_of_all_branches_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """More graphs than torch makes of a function unless it is told otherwise."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    graphs = []
    for rows in range(1, 11):
        model = model_of(CONFIGS[0])
        module = PackedLoss(model.train())
        accelerate(model, model.model.layers, compiled=True)
        torch._dynamo.utils.counters.clear()
        tokens_BT, positions_BT = (each[:1].repeat(rows, 1) for each in (TOKENS_BT, POSITIONS_BT))
        module(tokens_BT, positions_BT, counted(positions_BT.clone())).backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert min(graphs) >= 1
