"""Exports as a whole: written, read back by others, compared; what is refused leaves nothing."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralForCausalLM, Qwen2MoeForCausalLM

from codechoir.artifacts import damaged_outputs, read_manifest
from codechoir.compose.export import stage
from codechoir.compose.export.source import Source
from codechoir.compose.export.stage import ExportRequest, export
from codechoir.errors import ChecksumError, ConfigError, IncompatibleModelError, InputError, ProofError
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.moe import Routing, load_composed, open_composed
from codechoir.model.streaming import verify

SMALL = 20_000  # bytes of a shard


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [("llama", "mixtral", MixtralForCausalLM), ("qwen2, tied", "qwen2_moe", Qwen2MoeForCausalLM)],
)
def test_transformers_gives_the_sources_logits(made, tmp_path, name, target, kind):
    composed, _ = made(name)
    manifest = export(composed, ExportRequest(target, shard_bytes=SMALL), tmp_path / "out")
    facts = manifest.facts
    assert facts["logits"]["relative"] < 1e-5 and facts["logits"]["argmax_agreement"] == 1
    assert kind.__name__ in facts["logits"]["reader"]
    assert read_manifest(tmp_path / "out") == manifest and not damaged_outputs(tmp_path / "out", manifest)
    verify(tmp_path / "out")
    assert len(facts["checksums"]) > 1
    model = kind.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.tensor([load_tokenizer(tmp_path / "out")("public class A {")["input_ids"]])
    expected = load_composed(composed, Routing.TOKEN, 2, torch.float32)(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2).shape[1] <= ids.shape[1] + 2


@pytest.mark.parametrize("name", ["starcoder2", "llama, layer 1", "llama with attention biases"])
def test_a_dense_export_is_the_expert(made, tmp_path, name):
    composed, experts = made(name)
    facts = export(composed, ExportRequest("dense", "java"), tmp_path / "out").facts
    assert facts["expert"] == "java" and facts["logits"]["max_abs_difference"] < 1e-4
    ids = torch.arange(20)[None]
    expected = load_model(experts["java"], torch.float32)(ids).logits
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "out").float()(ids).logits, expected)


def test_our_own_form_is_read_where_our_package_is_not(made, tmp_path):
    composed, _ = made("llama")
    facts = export(composed, ExportRequest("hf"), tmp_path / "out").facts
    assert "without codechoir" in facts["logits"]["reader"] and facts["logits"]["relative"] < 1e-5
    found = open_composed(tmp_path / "out")
    assert found.experts == ("python", "java", "cpp")
    prefix = [torch.arange(40)]
    expected = open_composed(composed).prompt_router.probabilities(prefix)
    assert torch.equal(found.prompt_router.probabilities(prefix), expected)


@pytest.mark.parametrize("quantise", ["f16", "q8_0"])
def test_a_gguf_export(made, tmp_path, quantise):
    composed, _ = made("qwen2")
    facts = export(composed, ExportRequest("gguf", quantise=quantise), tmp_path / "out").facts
    assert facts["splitting_rule"] == "gpt-2" and facts["kept_in_f16"] == []
    assert facts["tensors"]["max_relative_difference"] <= facts["tensors"]["bound"]
    assert facts["logits"]["argmax_agreement"] > 0.9
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert held == {f"model-{quantise}.gguf", "README.md", "Modelfile", "manifest.json"}
    assert f"FROM ./model-{quantise}.gguf" in (tmp_path / "out" / "Modelfile").read_text()


def test_what_is_finished_is_not_done_again_and_another_request_is(made, tmp_path, monkeypatch):
    composed, _ = made("llama")
    request = ExportRequest("dense", "java", compare=False)
    first = export(composed, request, tmp_path / "out")
    assert "logits" not in first.facts
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_streaming", None)
        assert export(composed, request, tmp_path / "out") == first
    assert export(composed, replace(request, expert="cpp"), tmp_path / "out").facts["expert"] == "cpp"


def test_what_is_refused_writes_nothing(made, tmp_path):
    with pytest.raises(IncompatibleModelError):
        export(made("starcoder2")[0], ExportRequest("mixtral"), tmp_path / "out")
    with pytest.raises(ConfigError, match="dense and peft"):
        export(made("llama")[0], ExportRequest("mixtral", "java"), tmp_path / "out")
    composed = shutil.copytree(made("llama")[0], tmp_path / "model")
    data = bytearray((composed / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (composed / "model.safetensors").write_bytes(data)
    with pytest.raises(ChecksumError, match=r"model\.safetensors"):
        export(composed, ExportRequest("mixtral"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["mixtral", "gguf"])
def test_what_does_not_give_the_sources_logits_is_removed(made, tmp_path, monkeypatch, target):
    if target == "gguf":
        monkeypatch.setattr("codechoir.compose.export.gguf_file.neighbouring", lambda values, _: values)
    else:
        real = Source.expert
        monkeypatch.setattr(
            Source, "expert", lambda own, index, name: real(own, index, name) * (2 if index == 1 else 1)
        )
    with pytest.raises(ProofError):
        export(made("llama")[0], ExportRequest(target), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.json"]


def test_scores_are_those_of_the_run_unless_a_file_is_named(made, tmp_path, capsys):
    def write(path, model, value):
        figures = {"value": value, "low": value, "high": value, "count": 1, "clusters": 1}
        score = {"model": model, "language": "java", "metric": "pass@1"} | figures
        path.write_text(json.dumps({"scores": [score]}))

    run, request = tmp_path / "run", ExportRequest("dense", "java", compare=False)
    composed = shutil.copytree(made("llama")[0], run / "compose")
    (run / "recipe.yaml").write_text("")
    (run / "evaluate").mkdir()
    write(run / "evaluate" / "scores.json", "expert-java", 0.25)
    export(composed, request, tmp_path / "out")
    assert "| java | 0.250 [" in (tmp_path / "out" / "README.md").read_text()
    write(run / "evaluate" / "scores.json", "expert-cpp", 0.25)
    export(composed, request, tmp_path / "out")
    assert "## Scores" not in (tmp_path / "out" / "README.md").read_text()
    assert "the card is without scores" in capsys.readouterr().err
    write(tmp_path / "scores.json", "expert-java", 0.5)
    export(composed, replace(request, scores=tmp_path / "scores.json"), tmp_path / "out")
    assert "| java | 0.500 [" in (tmp_path / "out" / "README.md").read_text()
    write(tmp_path / "scores.json", "expert-cpp", 0.5)
    with pytest.raises(InputError, match="no scores of this model"):
        export(composed, replace(request, scores=tmp_path / "scores.json"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_experts_drawn_together_have_no_scores_of_those_as_trained(made, tmp_path, capsys):
    run = tmp_path / "run"
    composed = shutil.copytree(made("llama")[0], run / "compose")
    manifest = json.loads((composed / "manifest.json").read_text())
    manifest["facts"]["own_share"] = 0.75
    (composed / "manifest.json").write_text(json.dumps(manifest))
    (run / "recipe.yaml").write_text("")
    (run / "evaluate").mkdir()
    figures = {"value": 0.25, "low": 0.2, "high": 0.3, "count": 1, "clusters": 1}
    score = {"model": "expert-java", "language": "java", "metric": "pass@1"} | figures
    (run / "evaluate" / "scores.json").write_text(json.dumps({"scores": [score]}))
    export(composed, ExportRequest("dense", "java", compare=False), tmp_path / "out")
    assert "## Scores" not in (tmp_path / "out" / "README.md").read_text()
    assert "experts were scored as trained" in capsys.readouterr().err


def test_a_licence_text_goes_with_the_weights(made, tmp_path):
    composed = shutil.copytree(made("llama")[0], tmp_path / "model")
    (composed / "LICENSE").write_text("terms")
    export(composed, ExportRequest("dense", "java", compare=False), tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_text() == "terms"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]["LICENSE"] == 5
