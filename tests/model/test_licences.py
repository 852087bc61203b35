"""What a model's folder tells of its licence, and what of it goes along."""

import zipfile

import pytest
from huggingface_hub import ModelCard

from codechoir.model.licences import README, carry_licence, licence_files, origin_of, take_wheels_licence

METADATA = "Metadata-Version: 2.2\nName: tiny\nVersion: 1.0\n{}\n\nLong: description\n"


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("readme", "licence", "base_model"),
    [
        ("---\nlicense: mit\nbase_model: a/b\n---\n# Model\n", "mit", "a/b"),
        ("---\nlicense: other\nlicense_name: llama3\nbase_model:\n- a/b\n- c/d\n---\n", "llama3", "a/b, c/d"),
        ("---\nlicense: [1]\nbase_model: 3\n---\n", None, None),
        ("---\n: [\n---\n", None, None),
        ("# Model\n\n---\nlicense: mit\n---\n", None, None),
        ("---\nlicense: mit\n", None, None),
    ],
)
def test_the_front_matter_tells(base, readme, licence, base_model):
    (base / README).write_text(readme)
    found = origin_of(base)
    assert (found.name, found.licence, found.base_model) == ("base", licence, base_model)


def test_texts_are_found_by_their_usual_names(base):
    for name in ("LICENSE", "LICENCE.txt", "license-apache.md", "COPYING", "NOTICE", "licensed.py", "config.json"):
        (base / name).write_text(name)
    (base / "LICENSE.d").mkdir()
    found = {path.name for path in licence_files(base)}
    assert found == {"LICENSE", "LICENCE.txt", "license-apache.md", "COPYING", "NOTICE"}
    assert origin_of(base).licence == "other"


def test_it_goes_along_as_the_hub_reads_it_and_names_the_first_base(base, out, tmp_path):
    (base / "LICENSE").write_text("terms")
    (base / README).write_text("---\nlicense: apache-2.0\nmodel_name: Small\n---\n")
    carry_licence(base, out)
    card = ModelCard.load(out / README)
    assert (card.data.license, card.data.base_model) == ("apache-2.0", "Small")
    assert (out / "LICENSE").read_text() == "terms"
    (tmp_path / "next").mkdir()
    carry_licence(out, tmp_path / "next")
    assert origin_of(tmp_path / "next").base_model == "Small"


def test_nothing_goes_along_from_a_folder_that_tells_nothing(base, out):
    carry_licence(base, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "licence"),
    [
        ("License: Apache-2.0", "apache-2.0"),
        ("License-Expression: MIT\nLicense: another", "mit"),
        ("License: See the file of that name", "other"),
        ("Keywords: none", "other"),
    ],
)
def test_a_wheels_metadata_tell(base, tmp_path, line, licence):
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny-1.0.dist-info/METADATA", METADATA.format(line))
        wheel.writestr("tiny-1.0.dist-info/licenses/LICENSE", "terms")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
        wheel.writestr("tiny/LICENSE", "of something else")
    take_wheels_licence(tmp_path / "tiny-1.0-py3-none-any.whl", "small", base)
    assert (base / "LICENSE").read_text() == "terms"
    assert origin_of(base).licence == licence
    if (base / README).exists():
        assert "metadata of tiny 1.0" in (base / README).read_text() and origin_of(base).name == "small"


def test_what_the_models_own_file_said_stays(base, tmp_path):
    (base / README).write_text("---\nlicense: mit\n---\n")
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w") as wheel:
        wheel.writestr("tiny-1.0.dist-info/METADATA", METADATA.format("License: Apache-2.0"))
    take_wheels_licence(tmp_path / "tiny.whl", "small", base)
    assert origin_of(base).licence == "mit"
