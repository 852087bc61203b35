import json

import pytest

from codechoir.compose.export.scores import read_card_scores, scores_beside, scores_in_words
from codechoir.errors import InputError


def score(model, language, metric, value, low=0.0, high=1.0):
    figures = {"value": value, "low": low, "high": high, "count": 9, "clusters": 3}
    return {"model": model, "language": language, "metric": metric, **figures}


SCORES = [
    score("moe-prompt", "mean", "bits_per_byte", 0.71),
    score("moe-prompt", "cpp", "bits_per_byte", 0.81236, 0.80001, 0.82349),
    score("universal", "cpp", "bits_per_byte", 0.9),
    score("expert-cpp", "cpp", "bits_per_byte", 0.8),
    score("base", "cpp", "bits_per_byte", 0.95),
    score("moe-prompt", "cpp", "pass@1", 0.25, 0.1, 0.5),
    score("universal", "cpp", "pass@1", None, None, None),
    score("moe-prompt", "cpp", "infill_exact_match", 0.5),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"scores": SCORES, "comparisons": []}))
    return path


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_composed_model_and_the_universal_are_told_with_intervals(file):
    text = scores_in_words(read_card_scores(file, None), None)
    assert rows(text) == [
        ["Bits per byte on held-out files (less is better)", "prompt routing", "universal"],
        ["---"] * 3,
        ["cpp", "0.8124 [0.8000, 0.8235]", "0.9000 [0.0000, 1.0000]"],
        ["mean", "0.7100 [0.0000, 1.0000]", "not measured"],
        ["pass@1", "prompt routing", "universal"],
        ["---"] * 3,
        ["cpp", "0.250 [0.100, 0.500]", "not measured"],
    ]


def test_of_one_expert_its_own_are_told(file):
    text = scores_in_words(read_card_scores(file, "cpp"), "cpp")
    assert rows(text)[0][1:] == ["the expert for cpp", "universal"]
    assert rows(text)[2] == ["cpp", "0.8000 [0.0000, 1.0000]", "0.9000 [0.0000, 1.0000]"]


def test_a_tuned_models_card_tells_its_own(file):
    held = json.loads(file.read_text())
    held["scores"].append(score("moe-tuned", "cpp", "bits_per_byte", 0.77, None, None))
    file.write_text(json.dumps(held))
    text = scores_in_words(read_card_scores(file, None, is_tuned=True), None)
    assert rows(text)[0][1:] == ["tuned", "universal"]
    assert rows(text)[2] == ["cpp", "0.7700", "0.9000 [0.0000, 1.0000]"]


def test_a_file_without_the_model_or_of_another_kind_is_told(file, tmp_path):
    with pytest.raises(InputError, match="no scores of this model") as refused:
        read_card_scores(file, "java")
    assert "base, expert-cpp, moe-prompt, universal" in str(refused.value)
    for content in ("[]", '{"scores": [{"model": "moe-prompt"}]}', '{"scores": 3}'):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(InputError, match="not a file of scores"):
            read_card_scores(tmp_path / "other.json", None)
    with pytest.raises(InputError, match="no such file"):
        read_card_scores(tmp_path / "missing.json", None)


def test_they_lie_beside_the_composed_folder_of_a_run(tmp_path):
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "compose").mkdir()
    (tmp_path / "evaluate" / "scores.json").write_text("{}")
    assert scores_beside(tmp_path / "compose") is None
    (tmp_path / "recipe.yaml").write_text("")
    assert scores_beside(tmp_path / "compose") == tmp_path.resolve() / "evaluate" / "scores.json"
    (tmp_path / "evaluate" / "scores.json").unlink()
    assert scores_beside(tmp_path / "compose") is None
