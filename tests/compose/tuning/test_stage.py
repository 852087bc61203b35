"""Tuning of a small composed model; the oracles are the source's own files, and plain transformers on the result."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from codechoir.artifacts import read_manifest
from codechoir.compose.config import ComposeConfig, TuneConfig
from codechoir.compose.growing import Change, GrowInputs, grow
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.tuning.texts import read_tune_texts
from codechoir.documents import DOCUMENT_SCHEMA, read_parquet, write_parquet
from codechoir.errors import ConfigError, InputError
from codechoir.model.checkpoint import load_tokenizer, open_checkpoint
from codechoir.model.moe import Routing, load_composed, open_composed
from codechoir.model.streaming import verify
from codechoir.model.token_shards import LeftSequences
from codechoir.train.config import TrainConfig
from codechoir.train.shards import Source, make_shards

from .conftest import SMALL, Tuned

LANGUAGES = ("python", "java", "cpp")


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(open_checkpoint(folder).items())


@pytest.fixture(scope="module")
def left(composed: Path, documents: Path, tmp_path_factory: pytest.TempPathFactory) -> LeftSequences:
    """Training's packed sequences, of short parts of documents; the experts have read three of each language."""
    folder, config = tmp_path_factory.mktemp("left"), TrainConfig(sequence_length=48, document_tokens=30)
    shards = make_shards(Source(documents, "documents", composed), dict.fromkeys(LANGUAGES, 13), config, folder)
    return LeftSequences(dict.fromkeys(LANGUAGES, 3), lambda: shards)


def is_router(name: str) -> bool:
    return name.endswith(("block_sparse_moe.gate.weight", "router.weight"))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.numpy(force=True).tobytes() == other.numpy(force=True).tobytes()


@pytest.mark.parametrize("form", ["composed", "own_form"])
@pytest.mark.parametrize("what", ["routers", "experts", "whole"])
def test_what_moves_and_what_stays(tuned: Tuned, request: Any, form: str, what: str) -> None:
    source = request.getfixturevalue(form)
    out, facts = tuned(source, what=what)
    assert facts["best_step"] > 0 and facts["weights"] == "tuned"
    assert facts["tokens_read"] == 8 * 48 * (len(facts["experts"]) - ("generalist" in facts["experts"]))
    assert facts["tokens"] == facts["tokens_read"] * facts["best_step"] // 8
    before, after = tensors_of(source), tensors_of(out)
    assert list(before) == list(after)
    for name, tensor in before.items():
        moves = what != "experts" if is_router(name) else what != "routers" and ".experts." in name
        if moves:
            assert not torch.equal(after[name], tensor), name
            assert after[name].dtype == tensor.dtype and after[name].shape == tensor.shape
        else:
            assert same(after[name].view(torch.uint8), tensor.view(torch.uint8)), name
    names = {path.name for path in source.iterdir()} - {"manifest.json"}
    moments = {"moments.json", "moments.safetensors"}
    expected = names if what == "routers" else names - moments  # stored sums are of experts that are no more
    assert {path.name for path in out.iterdir()} - {"manifest.json"} == expected
    for name in expected & {"routing.json", "routing.safetensors", *moments}:
        assert (out / name).read_bytes() == (source / name).read_bytes()
    verify(out)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert facts["tuned_parameters"] == sum(after[name].numel() for name in moved)


def test_the_figures_are_those_of_the_written_folders(tuned: Tuned, composed: Path, documents: Path) -> None:
    """Loaded by plain transformers, which routes by token; experts alone and their even mixture by our class."""
    out, facts = tuned(top_k=1, what="whole")
    config = TuneConfig.model_validate(SMALL)
    texts = read_tune_texts(documents, LANGUAGES, load_tokenizer(composed), config)
    for side, folder in (("before", composed), ("after", out)):
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, num_experts_per_tok=1).eval()
        ours = load_composed(folder, Routing.UNIFORM, 1, torch.float32)
        for number, name in enumerate(LANGUAGES):
            tokens = texts.validation[name].tokens_NT
            with torch.no_grad():
                losses = [float(plain(row[None], labels=row[None]).loss) for row in tokens]
                ours.set_routing("uniform")
                uniform = float(ours(tokens, labels=tokens).loss)
                ours.set_routing("fixed")
                ours.fix_routes([LANGUAGES[number]])
                oracle = float(ours(tokens, labels=tokens).loss)
            found = facts["losses"][side]
            assert found["token"][name] == pytest.approx(sum(losses) / len(losses), abs=2e-5)
            assert found["uniform"][name] == pytest.approx(uniform, abs=2e-5)
            assert found["oracle"][name] == pytest.approx(oracle, abs=2e-5)
        means = {routing: by["mean"] for routing, by in facts["losses"][side].items()}
        expected = (means["uniform"] - means["token"]) / (means["uniform"] - means["oracle"])
        if means["uniform"] > means["oracle"]:
            assert facts["recovered"][side]["mean"] == pytest.approx(expected, abs=2e-3)
        else:
            assert facts["recovered"][side]["mean"] is None
    assert json.loads((out / "config.json").read_text())["num_experts_per_tok"] == 1 == facts["top_k"]


def test_tuned_token_routing_beats_untuned(tuned: Tuned) -> None:
    """On text that tuning has not read, with one expert a token and with two, and the curve says when."""
    for top_k in (1, 2):
        _, facts = tuned(out=f"top-{top_k}", top_k=top_k, steps=24, distillation=0)
        before, after = (facts["losses"][side]["token"]["mean"] for side in ("before", "after"))
        assert after < before - 0.02
        curve = facts["curve"]["validation"]
        assert [step for step, _ in curve] == list(range(0, 25, 4))
        assert min(curve, key=lambda point: point[1]) == [facts["best_step"], pytest.approx(after, abs=1e-5)]
        assert curve[0][1] == pytest.approx(before, abs=1e-5)
        assert len(facts["curve"]["training"]) == 24
        assert facts["tokens_read"] == 24 * 3 * 48
        for loads in facts["load"].values():
            assert all(sum(by.values()) == pytest.approx(1, abs=1e-3) for by in loads.values())


@pytest.mark.parametrize("form", ["composed", "own_form"])
def test_step_0_is_kept_where_tuning_makes_it_worse(tuned: Tuned, request: Any, form: str) -> None:
    """A model that has learnt something, at an absurd rate."""
    source, _ = tuned(request.getfixturevalue(form), what="whole", steps=16, out="good")
    out, facts = tuned(source, learning_rate=1e4, what="whole", warmup=0.0, top_k=1)
    assert facts["best_step"] == 0 and facts["weights"].startswith("the source's")
    assert facts["losses"]["before"] == facts["losses"]["after"]
    assert min(loss for _, loss in facts["curve"]["validation"][1:]) > facts["curve"]["validation"][0][1]
    before, after = tensors_of(source), tensors_of(out)
    assert before.keys() == after.keys()
    assert all(same(before[name].view(torch.uint8), after[name].view(torch.uint8)) for name in before)
    assert json.loads((out / "config.json").read_text())["num_experts_per_tok"] == 1


def test_held_out_documents_are_not_read(tuned: Tuned, documents: Path, tmp_path: Path) -> None:
    for language in LANGUAGES:
        rows = read_parquet(documents / language / "part.parquet").to_pylist()
        spoilt = [row | {"content": "?" * 500} if row["split"] == "held_out" else row for row in rows]
        write_parquet(tmp_path / "spoilt" / language / "part.parquet", spoilt, DOCUMENT_SCHEMA)
    out, facts = tuned()
    other, others = tuned(out="other", given=tmp_path / "spoilt")
    assert facts["curve"] == others["curve"]
    assert (out / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_model_that_grew_is_tuned(tuned: Tuned, composed: Path, documents: Path, tmp_path: Path) -> None:
    config = ComposeConfig(sequence_length=64, prompt_documents=20, prove=False)
    grow(config, GrowInputs(composed, documents, {"model": "m"}), Change("java"), tmp_path / "smaller")
    out, facts = tuned(tmp_path / "smaller")
    assert facts["experts"] == ["python", "cpp"] == list(open_composed(out).experts)
    assert facts["losses"]["before"]["token"].keys() == {"python", "cpp", "mean"}


def test_a_tuned_model_is_tuned_again(tuned: Tuned) -> None:
    out, first = tuned()
    _, second = tuned(out, out="again")
    assert second["losses"]["before"]["token"] == first["losses"]["after"]["token"]


def test_shards_are_no_larger_than_the_sources(
    tuned: Tuned, compose_config: ComposeConfig, compose_inputs: Any, tmp_path: Path
) -> None:
    from codechoir.compose.stage import compose

    config = compose_config.model_copy(update={"shard_bytes": 200_000, "prove": False})
    compose(config, compose_inputs, tmp_path / "sharded")
    out, _ = tuned(tmp_path / "sharded")
    files = sorted(out.glob("model-*.safetensors"))
    assert len(files) > 2 and not (out / "model.safetensors").exists()
    largest = max(path.stat().st_size for path in (tmp_path / "sharded").glob("model-*.safetensors"))
    assert max(path.stat().st_size for path in files) < largest + 2000  # headers may differ
    whole, _ = tuned(out="whole")
    assert all(torch.equal(tensor, tensors_of(whole)[name]) for name, tensor in tensors_of(out).items())
    verify(out)


def test_switch_transformers_loss_is_in_the_objective(tuned: Tuned) -> None:
    """The objective is cross-entropy and ten times the loss; an even load gives 1."""
    settings = {"balance": "switch", "balance_weight": 10.0, "z_loss": 0.0, "distillation": 0, "top_k": 1}
    _, facts = tuned(**settings)
    balance = [(objective - loss) / 10 for _, objective, loss in facts["curve"]["training"]]
    assert all(0.9 < each < 1.5 for each in balance)


def test_the_bias_steers_training_and_is_not_written(tuned: Tuned) -> None:
    settings = {"top_k": 1, "distillation": 0}
    out, facts = tuned(**settings, balance="bias", balance_step=0.1)
    _, plain = tuned(out="plain", **settings)
    curves = [each["curve"]["training"] for each in (facts, plain)]
    assert curves[0][0] == curves[1][0]  # at first there is no bias
    assert curves[0][2:] != curves[1][2:]
    assert facts["losses"]["before"] == plain["losses"]["before"]
    assert list(tensors_of(out)) == list(tensors_of(tuned(out="again", **settings)[0]))


def test_a_finished_folder_is_not_tuned_again(tuned: Tuned) -> None:
    out, facts = tuned()
    written = (out / "manifest.json").stat().st_mtime_ns
    assert tuned(checkpoint_seconds=5)[1] == facts
    assert (out / "manifest.json").stat().st_mtime_ns == written


def test_bad_input(tuned: Tuned, composed: Path, trunk: Path, documents: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a composed model"):
        tuned(trunk)
    with pytest.raises(ConfigError, match="more experts a token than there are") as caught:
        tuned(top_k=4)
    assert caught.value.allowed == "1 to 3"
    with pytest.raises(ConfigError, match="no positions for so much text") as longer:
        tuned(sequence_length=2049)
    assert (longer.value.seen, longer.value.allowed) == ("tune.sequence_length 2049", "at most 2048")
    shutil.copytree(documents / "python", tmp_path / "some" / "python")
    with pytest.raises(InputError, match="no documents of this language") as missing:
        tuned(given=tmp_path / "some")
    assert "java" in str(missing.value.seen)
    with pytest.raises(InputError, match="too little text to tune on"):
        tuned(validation_sequences=100)
    with pytest.raises(InputError, match="not tuned in its own folder"):
        tuned(composed, out=str(composed))
    assert not (tmp_path / "out").exists()


def test_routers_that_stay_have_been_fitted(
    tuned: Tuned, compose_config: ComposeConfig, compose_inputs: ComposeInputs, tmp_path: Path
) -> None:
    compose(
        compose_config.model_copy(update={"prove": False}), replace(compose_inputs, documents=None), tmp_path / "un"
    )
    with pytest.raises(InputError, match="have not been fitted"):
        tuned(tmp_path / "un", what="experts")
    assert tuned(tmp_path / "un", what="whole", top_k=1)[1]["steps"] == 8


def test_what_is_asked_fits_what_moves() -> None:
    with pytest.raises(ConfigError, match="frozen experts"):
        TuneConfig.parse({"what": "whole", "distillation": 0.5}, "--set")
    assert TuneConfig(what="whole").distillation_weight == 0
    assert TuneConfig(what="experts").distillation_weight == 0
    with pytest.raises(ConfigError, match="own_rate needs experts that move"):
        TuneConfig.parse({"own_rate": 0.5}, "--set")
    for balance in ("switch", "bias"):
        with pytest.raises(ConfigError, match="balance needs routers that move"):
            TuneConfig.parse({"what": "experts", "balance": balance}, "--set")
    assert TuneConfig().distillation_weight == 1
    assert TuneConfig(distillation=0).distillation_weight == 0


def test_documents_that_training_has_packed_stay_apart(tuned: Tuned, composed: Path, left: LeftSequences) -> None:
    """Losses before any step: those of plain transformers on each document by itself."""
    _, facts = tuned(what="whole", top_k=1, left=left)
    plain = AutoModelForCausalLM.from_pretrained(composed, dtype=torch.float32, num_experts_per_tok=1).eval()
    for name, shard in left.shards().items():
        first, means = left.first[name], []
        for row in range(first + SMALL["steps"], first + SMALL["steps"] + 2):
            starts = [*np.flatnonzero(shard.positions_NT[row] == 0), 48]
            assert len(starts) > 2
            losses = []
            for start, end in itertools.pairwise(sorted({0, *starts})):
                tokens = torch.from_numpy(shard.tokens_NT[row, start:end].astype(np.int64))[None]
                with torch.no_grad():
                    logits = plain(tokens).logits[0, :-1]
                losses += functional.cross_entropy(logits, tokens[0, 1:], reduction="none").tolist()
            means.append(sum(losses) / len(losses))
        assert facts["losses"]["before"]["token"][name] == pytest.approx(sum(means) / 2, abs=2e-5)


def test_what_is_left_is_another_input_than_documents(tuned: Tuned, left: LeftSequences) -> None:
    """And so is another place in it; the same again runs nothing."""
    (out, first), (_, same_again) = (tuned(what="whole", left=left) for _ in range(2))
    assert first == same_again
    digests = [read_manifest(out).digest]
    for given in (LeftSequences(dict.fromkeys(LANGUAGES, 2), left.shards), None):
        tuned(what="whole", left=given)
        digests.append(read_manifest(out).digest)
    assert len(set(digests)) == 3
