import json
import shutil

import pytest

from codechoir.compose.compatibility import compare_configs, compare_vocabularies, special_token_differences
from codechoir.errors import IncompatibleModelError, InputError
from codechoir.model.checkpoint import Checkpoint, full_config, open_checkpoint


@pytest.mark.parametrize(
    "change",
    [
        {"attention_dropout": 0.5},
        {"use_cache": False},
        {"initializer_range": 0.5},
        {"torch_dtype": "bfloat16"},
        {"eos_token_id": 7},
        {"_name_or_path": "elsewhere"},
    ],
)
def test_what_a_forward_pass_does_not_depend_on_may_differ(trunk, change):
    base = open_checkpoint(trunk)
    compare_configs(full_config(base), Checkpoint(trunk, base.config | change, {}), "java")


@pytest.mark.parametrize("change", [{"attention_bias": True}, {"max_position_embeddings": 7}, {"a_new_setting": 1}])
def test_any_other_setting_must_agree(trunk, change):
    base = open_checkpoint(trunk)
    with pytest.raises(IncompatibleModelError) as refused:
        compare_configs(full_config(base), Checkpoint(trunk, base.config | change, {}), "java")
    ((key, value),) = change.items()
    assert f"{key} {value}" in str(refused.value)


@pytest.fixture
def two(trunk, tmp_path):
    """Two folders with the same tokenizer."""
    folders = tmp_path / "base", tmp_path / "expert"
    for folder in folders:
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(trunk / name, folder / name)
    return folders


def test_how_a_tokenizer_is_written_and_pads_does_not_matter(two):
    base, expert = two
    tokenizer = json.loads((expert / "tokenizer.json").read_text())
    tokenizer |= {"padding": None, "truncation": {"max_length": 3}}
    (expert / "tokenizer.json").write_text(json.dumps(tokenizer, indent=7, sort_keys=True))
    compare_vocabularies(base, expert, "java")


def test_an_added_token_is_another_vocabulary(two):
    base, expert = two
    tokenizer = json.loads((expert / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [*tokenizer.get("added_tokens", []), {"id": 999, "content": "<fim>"}]
    (expert / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(IncompatibleModelError, match="added_tokens has") as refused:
        compare_vocabularies(base, expert, "java")
    assert str(expert / "tokenizer.json") in str(refused.value)


def test_older_files_are_compared_where_there_is_no_tokenizer_json(tmp_path):
    for name, merges in (("base", "a b\n"), ("expert", "b a\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.json").write_text('{"a": 0, "b": 1}')
        (tmp_path / name / "merges.txt").write_text(merges)
    with pytest.raises(IncompatibleModelError, match=r"merges\.txt"):
        compare_vocabularies(tmp_path / "base", tmp_path / "expert", "java")


def test_an_expert_without_a_tokenizer_takes_the_bases(two, tmp_path):
    compare_vocabularies(two[0], tmp_path, "java")
    assert special_token_differences(two[0], tmp_path) == {}


def test_special_tokens_are_compared_however_they_are_written(two):
    base, expert = two
    for folder, unknown, end in (
        (base, "<u>", "<e>"),
        (expert, {"content": "<u>", "lstrip": False}, {"content": "<x>"}),
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps({"unk_token": unknown, "eos_token": end}))
    (expert / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<p>"}))
    assert special_token_differences(base, expert) == {"eos_token": {"base": "<e>", "expert": "<x>"}}


def test_a_damaged_tokenizer_is_told(two):
    (two[1] / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        compare_vocabularies(*two, "java")
