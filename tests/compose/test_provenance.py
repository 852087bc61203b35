import json

import pytest

from codechoir.compose.provenance import changed, facts_of, made_of, recorded


@pytest.fixture
def folders(tmp_path):
    for name, licence in (("base", "mit"), ("java", "apache-2.0"), ("cpp", None)):
        (tmp_path / name).mkdir()
        if licence:
            (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return tmp_path


def write_manifest(folder, facts):
    (folder / "manifest.json").write_text(json.dumps({"facts": facts}))


def test_base_and_experts_are_told_by_name_and_licence(folders):
    told = made_of(folders / "base", {name: folders / name for name in ("java", "cpp")})
    assert (told["base"]["name"], told["base"]["licence"]) == ("base", "mit")
    assert {name: each["licence"] for name, each in told["experts"].items()} == {"java": "apache-2.0", "cpp": None}


def test_it_comes_back_from_a_manifest(folders):
    told = made_of(folders / "base", {"java": folders / "java"})
    write_manifest(folders / "cpp", {"made_of": told})
    assert recorded(folders / "cpp") == told
    assert recorded(folders / "base") == {}


@pytest.mark.parametrize("content", ["", "[]", '{"facts": 3}', '{"facts": {"made_of": {"base": {}}}}'])
def test_a_manifest_that_does_not_tell_is_as_none(folders, content):
    (folders / "cpp" / "manifest.json").write_text(content)
    assert recorded(folders / "cpp") == {}
    assert isinstance(facts_of(folders / "cpp"), dict)


def test_experts_that_stay_are_told_as_before(folders):
    before = folders / "cpp"
    write_manifest(before, {"made_of": made_of(folders / "base", {name: folders / name for name in ("base", "java")})})
    told = changed(before, {"java": before, "base": folders / "java"})
    assert told["experts"]["java"]["licence"] == "apache-2.0" and told["experts"]["java"]["name"] == "java"
    assert told["experts"]["base"]["name"] == "java"
    assert told["base"]["licence"] == "mit"
    unknown = changed(folders / "base", {"java": folders / "base"})
    assert unknown["experts"]["java"]["name"] == unknown["base"]["name"] == "base"
