import json
import shutil

import pytest
import yaml

from codechoir.compose.export.card import Card
from codechoir.compose.export.source import open_source
from codechoir.records import Score

FIGURES = {
    "logits": {
        "reader": "somebody",
        "tokens": 7,
        "max_abs_difference": 0.5,
        "max_abs_logit": 20.0,
        "argmax_agreement": 0.75,
        "kl": 0.25,
    }
}


@pytest.fixture
def model(made, tmp_path):
    return shutil.copytree(made("llama")[0], tmp_path / "model")


def head_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_it_tells_what_it_is_made_of_and_how_far_off_it_is(model):
    text = Card(open_source(model), "small", "mixtral", None, None, FIGURES).text()
    assert head_of(text)["library_name"] == "transformers" and "mixture-of-experts" in head_of(text)["tags"]
    assert "python, java, cpp" in text and "top-2" in text and "2 of 2" in text
    assert "0.5 apart where the largest is 20" in text and "75.0%" in text and "somebody" in text
    assert "vllm serve" in text and "--format gguf" in text and "ollama create" not in text
    left_out = Card(open_source(model), "small", "mixtral", None, None, {}).text()
    assert "was not compared" in left_out


@pytest.mark.parametrize("served", [True, False])
def test_it_names_only_programs_that_can_run_it(made, model, served):
    source = open_source(model if served else made("starcoder2")[0])
    own = Card(source, "small", "hf", None, None, FIGURES).text()
    assert "trust_remote_code=True" in own and "vllm serve" not in own
    dense = Card(source, "small", "dense", "java", None, FIGURES).text()
    assert "The expert for java" in dense and "vllm serve" in dense and "moe" not in head_of(dense)["tags"]
    file = Card(source, "small", "gguf", None, "model-f16.gguf", FIGURES)
    assert "ollama create small -f Modelfile" in file.text() and "from_pretrained" not in file.text()
    lines = file.modelfile("<|end|>").splitlines()
    assert lines[0] == "FROM ./model-f16.gguf" and 'PARAMETER stop "<|end|>"' in lines
    assert not any("stop" in line for line in file.modelfile(None).splitlines())


def test_an_adapters_rank_and_loss_are_told(model):
    figures = FIGURES | {"rank": 16, "largest_share_lost": 0.25}
    text = Card(open_source(model), "small", "peft", "java", None, figures).text()
    assert head_of(text)["library_name"] == "peft"
    assert "rank 16" in text and "at most 0.25 is left out" in text
    assert "PeftModel" in text and "vllm" not in text


def test_the_licence_is_what_the_folder_tells(model):
    def card():
        return Card(open_source(model), "small", "mixtral", None, None, FIGURES).text()

    assert head_of(card())["license"] == "unknown" and "tells no licence" in card()
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert head_of(card())["license"] == "apache-2.0"
    (model / "README.md").write_text("---\n: [\n---\n")
    assert head_of(card())["license"] == "unknown"
    (model / "LICENSE").write_text("all of it")
    assert head_of(card())["license"] == "other" and "LICENSE" in card()


@pytest.mark.parametrize(
    ("base", "java", "head"),
    [
        ("mit", None, "mit"),
        ("mit", "mit", "mit"),
        ("mit", "apache-2.0", "other"),
        (None, "mit", "other"),
        (None, None, "unknown"),
    ],
)
def test_the_licences_of_base_and_experts_are_told(model, base, java, head):
    def part(name, licence):
        return {"name": name, "base_model": "First", "licence": licence, "licence_files": []}

    manifest = json.loads((model / "manifest.json").read_text())
    manifest["facts"]["made_of"] = {
        "base": part("trunk", base),
        "experts": {"python": part("py", base), "java": part("jv", java), "cpp": part("cc", base)},
    }
    (model / "manifest.json").write_text(json.dumps(manifest))
    text = Card(open_source(model), "small", "mixtral", None, None, FIGURES).text()
    assert head_of(text)["license"] == head
    assert f"the expert for java (jv, from First): {java or 'tells none'}" in text
    assert ("may add terms" in text) == (None in (base, java))
    alone = Card(open_source(model), "small", "dense", "cpp", None, FIGURES).text()
    assert head_of(alone)["license"] == (base or "unknown") and "(jv" not in alone


def test_scores_are_told_where_there_are_any(model):
    figures = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 3, "clusters": 3}
    scores = [Score(model="moe-prompt", language="cpp", metric="pass@1", **figures)]
    text = Card(open_source(model), "small", "mixtral", None, None, FIGURES, scores).text()
    assert "## Scores" in text and "| cpp | 0.500 [0.400, 0.600] |" in text
    assert "## Scores" not in Card(open_source(model), "small", "mixtral", None, None, FIGURES).text()


def test_proofs_are_those_of_the_composition(composed, model):
    text = Card(open_source(composed), "small", "mixtral", None, None, FIGURES).text()
    assert "logits were 0 from that expert's own (the worst of python, java, cpp)" in text
    assert "None are on record" in Card(open_source(model), "small", "mixtral", None, None, FIGURES).text()
    (model / "manifest.json").unlink()
    assert "None are on record" in Card(open_source(model), "small", "mixtral", None, None, FIGURES).text()
