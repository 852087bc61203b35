import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from codechoir.compose import proofs
from codechoir.compose.layerwise import skeleton
from codechoir.compose.plan import plan
from codechoir.compose.proofs import prove
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.documents import DOCUMENT_SCHEMA, write_parquet
from codechoir.errors import ProofError
from codechoir.model.checkpoint import load_model, open_checkpoint, write_checkpoint

LANGUAGES = ("python", "java", "cpp")
TEXTS = {
    name: torch.randint(1, 257, (1, 40), generator=torch.Generator().manual_seed(number))
    for number, name in enumerate(LANGUAGES)
}


def test_a_good_composition_passes_with_nothing_between(trunk, experts, composed):
    figures = prove(plan(trunk, experts), composed, TEXTS)
    assert list(figures["fixed_route"]) == list(LANGUAGES)
    for name, figure in figures["fixed_route"].items():
        logits = load_model(experts[name], torch.float32)(TEXTS[name]).logits.detach()
        assert figure["max_abs_difference"] == 0
        assert figure["max_abs_logit"] == pytest.approx(float(logits.abs().max()), rel=1e-5)
        assert figure["backend"] == "eager"
    identical = figures["identical_experts"]
    assert 0 < identical["relative"] < 1e-5
    assert identical["relative"] == pytest.approx(identical["max_abs_difference"] / identical["max_abs_logit"])


@pytest.fixture
def tampered(composed, tmp_path):
    """`tampered(name, change)`: the composed folder with one tensor changed by hand."""

    def tamper(name, change):
        folder = shutil.copytree(composed, tmp_path / "tampered")
        checkpoint = open_checkpoint(folder)
        tensors = dict(checkpoint.items())
        change(tensors[name])
        write_checkpoint(folder, checkpoint.config, tensors, tokenizer=folder)
        return folder

    return tamper


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.layers.0.block_sparse_moe.experts.0.w1.weight", "fixed route against python"),
        ("model.layers.1.block_sparse_moe.experts.1.w2.weight", "fixed route against java"),
        ("model.layers.1.block_sparse_moe.experts.2.w3.weight", "fixed route against cpp"),
        ("model.layers.0.self_attn.k_proj.weight", "fixed route"),
        ("model.layers.1.input_layernorm.weight", "fixed route"),
        ("model.embed_tokens.weight", "fixed route"),
    ],
)
def test_a_tensor_that_was_tampered_with_fails_the_fixed_route(trunk, experts, tampered, name, told):
    folder = tampered(name, lambda tensor: tensor.mul_(1.0001))
    with pytest.raises(ProofError, match=told) as failed:
        prove(plan(trunk, experts), folder, TEXTS)
    assert "exactly 0" in failed.value.allowed


def test_two_experts_that_changed_places_fail(trunk, experts, composed):
    swapped = {name: experts[{"python": "java", "java": "python"}.get(name, name)] for name in LANGUAGES}
    with pytest.raises(ProofError, match="fixed route against python"):
        prove(plan(trunk, swapped), composed, TEXTS)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_router_that_is_not_a_number_fails_identical_experts(trunk, experts, tampered, layer):
    """The fixed route goes past the routers; the other proof goes through them."""
    folder = tampered(f"model.layers.{layer}.block_sparse_moe.gate.weight", lambda tensor: tensor.fill_(float("nan")))
    with pytest.raises(ProofError, match="identical experts against the trunk"):
        prove(plan(trunk, experts), folder, TEXTS)


def test_one_text_that_gives_no_number_is_enough_to_fail(trunk, experts, composed, monkeypatch):
    """The largest of several differences must not be taken past a NaN."""
    real, calls = proofs._difference, []

    def difference(ours, theirs):
        calls.append(1)
        return real(ours * float("nan") if len(calls) == 3 + 2 else ours, theirs)

    monkeypatch.setattr(proofs, "_difference", difference)
    with pytest.raises(ProofError, match="identical experts"):
        prove(plan(trunk, experts), composed, TEXTS)


def test_the_proofs_leave_the_routers_and_files_as_they_are(trunk, experts, composed):
    before = {path.name: path.read_bytes() for path in composed.iterdir() if path.is_file()}
    prove(plan(trunk, experts), composed, TEXTS)
    assert {path.name: path.read_bytes() for path in composed.iterdir() if path.is_file()} == before


@pytest.mark.network
@pytest.mark.real
def test_the_real_base_composes_and_both_proofs_hold(embedded_base, vary, compose_config, tmp_path):
    """Two experts made from the 135M base by a little noise on their feed-forward weights."""
    experts = {
        name: vary(embedded_base, tmp_path / name, seed, scale=0.003) for seed, name in enumerate(("python", "cpp"))
    }
    for name, line in (
        ("python", "def f{}(x):\n    return x + {}\n"),
        ("cpp", "int f{}(int x) {{ return x + {}; }}\n"),
    ):
        rows = [
            {"key": f"{name}{number}", "package": "p", "split": split, "content": line.format(number, number) * 12}
            for number in range(12)
            for split in ["train" if number < 10 else "held_out"]
        ]
        write_parquet(tmp_path / "documents" / name / "part.parquet", rows, DOCUMENT_SCHEMA)
    inputs = ComposeInputs(embedded_base, experts, tmp_path / "documents", {"base": "b"})
    manifest = compose(compose_config, inputs, tmp_path / "out")
    figures = manifest.facts["proofs"]
    assert [figure["max_abs_difference"] for figure in figures["fixed_route"].values()] == [0, 0]
    assert figures["identical_experts"]["relative"] < 1e-5
    assert figures["identical_experts"]["max_abs_logit"] > 5  # a model that has something to say
    active = manifest.facts["active_parameters"]
    assert active["dense"] == 134_515_008  # SmolLM2-135M's published size


def test_plain_transformers_reads_what_the_proofs_were_run_on(trunk, experts, composed):
    """The proofs give the model its weights by themselves; its own loader must come to the same logits."""
    layers = plan(trunk, experts).trunk.family.layers
    written = open_checkpoint(composed)
    model = skeleton(written.config, "eager")
    found = plan(trunk, experts)
    tokens = TEXTS["java"]
    loaded = AutoModelForCausalLM.from_pretrained(composed, dtype=torch.float32, experts_implementation="eager")
    with torch.no_grad():
        for index, name in enumerate(LANGUAGES):
            with proofs._fixed_route(model, found, index):
                ours = proofs._logits(model, layers, proofs._one_expert(found, written, index), tokens)
            with proofs._fixed_route(loaded, found, index):
                assert torch.equal(ours, loaded(tokens, use_cache=False).logits), name
