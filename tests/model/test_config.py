from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from codechoir.model.config import BaseSource, FolderBase, GgufBase, HubBase, RandomBase, WheelBase, parse_source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bigcode/gpt_bigcode-santacoder", HubBase(id="bigcode/gpt_bigcode-santacoder")),
        ("Qwen/Qwen2.5-Coder-0.5B", HubBase(id="Qwen/Qwen2.5-Coder-0.5B")),
        ("some/model.gguf", GgufBase(path=Path("some/model.gguf"))),
        ("./relative", FolderBase(path=Path("./relative"))),
        ("../above", FolderBase(path=Path("../above"))),
        ("/absolute/owner/name", FolderBase(path=Path("/absolute/owner/name"))),
        ("one-word", FolderBase(path=Path("one-word"))),
        ("with space/name", FolderBase(path=Path("with space/name"))),
    ],
)
def test_a_command_lines_text_names_a_source(text, expected):
    assert parse_source(text) == expected


def test_a_folder_that_is_there_wins_over_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_source("owner/name") == HubBase(id="owner/name")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert parse_source("owner/name") == FolderBase(path=Path("owner/name"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"kind": "hub", "id": "a/b"}, HubBase),
        ({"kind": "folder", "path": "x"}, FolderBase),
        ({"kind": "gguf", "path": "x.gguf"}, GgufBase),
        ({"kind": "random"}, RandomBase),
        (
            {
                "kind": "wheel",
                "member": "m.gguf",
                "package": {"registry": "pypi", "name": "n", "version": "1", "sha256": "0" * 64},
            },
            WheelBase,
        ),
    ],
)
def test_a_recipe_names_a_source_by_its_kind(values, kind):
    assert type(TypeAdapter(BaseSource).validate_python(values)) is kind


@pytest.mark.parametrize("values", [{"kind": "other"}, {"kind": "random", "layers": 0}, {"kind": "hub", "path": "x"}])
def test_other_sources_are_refused(values):
    with pytest.raises(ValidationError):
        TypeAdapter(BaseSource).validate_python(values)
