"""The steps: a plain torch loop beside them, interruptions anywhere, and numbers that leave the finite ones."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from codechoir.compose.config import ComposeConfig, TuneConfig
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.tuning import loop as loop_module
from codechoir.compose.tuning import stage as stage_module
from codechoir.compose.tuning.texts import read_tune_texts
from codechoir.console import Progress
from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tokenizer, open_checkpoint
from codechoir.model.optimiser import learning_rate

from .conftest import SMALL, Tuned

LANGUAGES = ("python", "java", "cpp")
GATES = [f"model.layers.{layer}.block_sparse_moe.gate.weight" for layer in (0, 1)]


@pytest.mark.parametrize(("per_step", "per_forward"), [(2, 1), (3, 2)])
def test_the_routers_are_those_of_a_plain_loop(
    tuned: Tuned, composed: Path, experts: dict[str, Path], documents: Path, per_step: int, per_forward: int
) -> None:
    """transformers' own Mixtral and dense experts, torch's AdamW; top-2, both losses and the z-loss."""
    settings = {"warmup": 0.0, "final_learning_rate": 1.0, "distillation": 0.7, "z_loss": 0.05, "steps": 4}
    settings |= {"sequences_per_language": per_step, "sequences_per_forward": per_forward}
    out, facts = tuned(**settings, top_k=2)
    assert facts["best_step"] == 4
    config = TuneConfig.model_validate(SMALL | settings)
    texts = read_tune_texts(documents, LANGUAGES, load_tokenizer(composed), config)
    model = AutoModelForCausalLM.from_pretrained(composed, dtype=torch.float32).eval()
    teachers = [AutoModelForCausalLM.from_pretrained(experts[name], dtype=torch.float32).eval() for name in LANGUAGES]
    model.requires_grad_(False)
    moving = [layer.mlp.gate.weight.requires_grad_(True) for layer in model.model.layers]
    reference = torch.optim.AdamW(moving, lr=0.02, betas=(config.beta1, config.beta2), weight_decay=0.0)
    objectives = []
    for step in range(4):
        reference.zero_grad()
        objective = 0.0
        for row in range(per_step * step, per_step * (step + 1)):
            tokens = texts.batch(row, row + 1).tokens_NT
            given = model(tokens, output_router_logits=False)
            router_logits = model(tokens, output_router_logits=True).router_logits
            entropy = functional.cross_entropy(given.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
            with torch.no_grad():
                wanted = torch.cat([each(row[None]).logits for each, row in zip(teachers, tokens, strict=True)])
            pair = [torch.distributions.Categorical(logits=each[:, :-1]) for each in (wanted, given.logits)]
            z = sum(torch.logsumexp(each, dim=-1).square().mean() for each in router_logits) / 2
            total = entropy + 0.7 * torch.distributions.kl_divergence(*pair).mean() + 0.05 * z
            (total / per_step).backward()
            objective += float(total.detach()) / per_step
        torch.nn.utils.clip_grad_norm_(moving, config.clip_norm)
        reference.step()
        objectives.append(objective)
    assert [objective for _, objective, _ in facts["curve"]["training"]] == pytest.approx(objectives, abs=2e-4)
    found = dict(open_checkpoint(out).items())
    for name, parameter in zip(GATES, moving, strict=True):
        torch.testing.assert_close(found[name].float(), parameter.detach(), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(
    "routing", [{"top_k": 1, "balance": "switch"}, {"top_k": 3, "z_loss": 0}, {"what": "experts", "top_k": 3}]
)
def test_copies_with_nothing_of_their_own_are_the_dense_model(
    tuned: Tuned,
    compose_config: ComposeConfig,
    compose_inputs: ComposeInputs,
    documents: Path,
    tmp_path: Path,
    routing: dict[str, Any],
) -> None:
    """The trunk trained by a plain torch loop on the same sequences, its feed-forward weights alone.

    With one expert a token, whose weight is always 1, what teaches the routers reaches nothing else; with all, their
    weights make no difference, and the routers' own losses are left out, as they are where routers stay.
    """
    trunk = compose_inputs.trunk
    copies = replace(compose_inputs, experts=dict.fromkeys(LANGUAGES, trunk))
    compose(compose_config.model_copy(update={"prove": False}), copies, tmp_path / "copies")
    settings: dict[str, Any] = {"what": "whole", "own_rate": 0, "steps": 4, "weight_decay": 0.1, "clip_norm": 1e9}
    settings |= routing
    out, facts = tuned(tmp_path / "copies", **settings)
    assert facts["best_step"] == 4
    config = TuneConfig.model_validate(SMALL | settings)
    texts = read_tune_texts(documents, LANGUAGES, load_tokenizer(trunk), config)
    model = AutoModelForCausalLM.from_pretrained(trunk, dtype=torch.float32).eval()
    moving = {name: each for name, each in model.named_parameters() if ".mlp." in name}
    reference = torch.optim.AdamW(moving.values(), betas=(config.beta1, config.beta2), weight_decay=0.1)
    losses = []
    for step in range(4):
        tokens = texts.batch(step, step + 1).tokens_NT
        loss = functional.cross_entropy(model(tokens).logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        reference.zero_grad()
        loss.backward()
        reference.param_groups[0]["lr"] = learning_rate(step, 4, config)
        reference.step()
        losses.append(float(loss.detach()))
    assert [loss for *_, loss in facts["curve"]["training"]] == pytest.approx(losses, abs=1e-4)
    found = dict(open_checkpoint(out).items())
    for name, expected in moving.items():
        layer, module = name.split(".")[2], name.split(".")[-2]
        part = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}[module]
        for number in range(len(LANGUAGES)):
            weight = found[f"model.layers.{layer}.block_sparse_moe.experts.{number}.{part}.weight"]
            torch.testing.assert_close(weight.float(), expected.detach(), rtol=1e-2, atol=2e-3)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_it_computes_the_same(tuned: Tuned, own_form: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of our own form, in which one layer has no experts."""
    settings = {"what": "whole", "top_k": 1, "balance": "switch"}
    _, expected = tuned(own_form, "plain", **settings)
    counters = torch._dynamo.utils.counters
    counters.clear()
    monkeypatch.setattr(stage_module, "pays_to_compile", lambda *_: True)
    _, facts = tuned(own_form, "compiled", **settings)
    assert counters["stats"]["unique_graphs"] >= 3  # attention, norms, a feed-forward module
    found, curve = (each["curve"]["training"] for each in (facts, expected))
    assert [step[1:] for step in found] == [pytest.approx(step[1:], abs=2e-4) for step in curve]


INTERRUPTIONS = [
    ({}, 0),
    ({}, 3),
    ({"balance": "bias", "balance_step": 0.05, "top_k": 1}, 5),
    ({"what": "whole", "own_rate": 0.3}, 4),
]


@pytest.mark.parametrize(("settings", "step"), INTERRUPTIONS)
def test_interrupted_it_goes_on_bit_for_bit(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], step: int
) -> None:
    """Interrupted after the step `step`, before its state is saved: the second run does that step again."""
    settings = settings | {"validate_every": 2}
    expected, facts = tuned(**settings)
    steps: list[object] = []

    def interrupt(*arguments: object) -> None:
        steps.append(arguments)
        if len(steps) == step + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tuned(out="again", **settings)
    steps.clear()
    monkeypatch.setattr(Progress, "advance", lambda *arguments: steps.append(arguments))
    resumed, found = tuned(out="again", **settings)
    assert len(steps) == 8 - step
    assert without_times(found) == without_times(facts)
    assert files_of(resumed) == files_of(expected)


@pytest.mark.parametrize("where", ["save_tensors", "write_tuned"])
def test_a_kill_while_something_is_written_loses_nothing(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The first time that the best weights are written, and when the model is."""
    expected, _ = tuned()

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    module = loop_module if where == "save_tensors" else stage_module
    with monkeypatch.context() as patch:
        patch.setattr(module, where, fail)
        with pytest.raises(KeyboardInterrupt):
            tuned(out="again")
    resumed, _ = tuned(out="again")
    assert files_of(resumed) == files_of(expected)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def without_times(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "tokens_per_second"}


def test_a_loss_that_is_not_finite_names_its_step(tuned: Tuned, tmp_path: Path) -> None:
    """At a rate at which experts overflow. Nothing is left that could be taken for a model."""
    with pytest.raises(InputError, match="left the finite numbers") as caught:
        tuned(what="whole", learning_rate=1e38, warmup=0.0)
    assert "step" in str(caught.value.seen)
    assert caught.value.next_step == "lower learning_rate"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"manifest.json", "config.json", "model.safetensors"}


def test_a_gradient_that_is_not_finite_names_its_step(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last step no loss after it would show the weights that it spoils."""
    step = loop_module.MasterAdamW.step
    steps: list[float] = []

    def spoil(self: Any, rate: float) -> float:
        steps.append(rate)
        if len(steps) == 8:
            next(iter(self._parameters.values())).grad[0, 0] = float("inf")
        return step(self, rate)

    monkeypatch.setattr(loop_module.MasterAdamW, "step", spoil)
    with pytest.raises(InputError, match="gradient norm inf at step 7"):
        tuned()
