"""What holds for every test, and what many share: a corpus, a command line that starts at once, a finished run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # torch is imported only where a test asks for a model
    from codechoir.artifacts import Manifest
    from codechoir.compose.config import ComposeConfig
    from codechoir.compose.stage import ComposeInputs

# Hypothesis neither times out on a slow machine nor draws other examples each run.
settings.register_profile("codechoir", deadline=None, derandomize=True)
settings.load_profile("codechoir")

# Small models are fastest on one thread, and tests that run beside others do not wait for a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# As the command line sets them: no progress bars and no telemetry of Daft's.
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
os.environ.setdefault("DO_NOT_TRACK", "1")

TESTS = Path(__file__).parent
TINY = TESTS.parent / "recipes" / "tiny.yaml"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int  # negative: the signal that killed it
    stdout: str
    stderr: str

    def refusal(self) -> str:
        """The one message of a command that the user has got wrong; no result, no traceback."""
        assert (self.code, self.stdout) == (2, ""), self
        assert "Traceback" not in self.stderr
        before, _, message = self.stderr.partition("error: ")
        assert message and "rror: " not in before + message, self.stderr
        return message


Codechoir = Callable[..., Result]


@pytest.fixture(scope="session")
def write_gguf(random_base):
    """`write_gguf(path, architecture, pre_tokenizer)`: a two-layer Llama, matrices in Q8_0, norms in float32."""
    from tests.gguf_files import gguf_writer

    return gguf_writer(random_base)


@pytest.fixture(scope="session")
def codechoir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Codechoir]:
    """Runs the command line in a process of its own, forked from one that has already imported torch."""
    scratch = tmp_path_factory.mktemp("codechoir")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CODECHOIR_CACHE": str(scratch / "cache")}
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # as `main` sets it before transformers is imported
    server = subprocess.Popen(
        [sys.executable, str(TESTS / "zygote.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert server.stdin and server.stdout and server.stdout.readline() == b"ready\n"

    def run(
        *arguments: object,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        hidden: Sequence[str] = (),  # programs that are not found
        file_limit: int = 0,  # bytes
        signal: tuple[int, int, Path] | None = None,  # number, at which touch, of a path below
    ) -> Result:
        for name, content in (("stdin", stdin), ("stdout", b""), ("stderr", b"")):
            (scratch / name).write_bytes(content)
        request = {
            "arguments": list(map(str, arguments)),
            "cwd": str(scratch),
            "env": dict(env or {}),
            "hidden": list(hidden),
            "file_limit": file_limit,
            "signal": signal and signal[0],
            "after": signal and signal[1],
            "root": signal and str(signal[2]),
            **{name: str(scratch / name) for name in ("stdin", "stdout", "stderr")},
        }
        server.stdin.write(json.dumps(request).encode() + b"\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return Result(code, *((scratch / name).read_text(errors="replace") for name in ("stdout", "stderr")))

    yield run
    server.stdin.close()
    server.wait()
    server.stdout.close()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source files of three packages in two languages; `held` is to be held out."""
    root = tmp_path_factory.mktemp("corpus")
    for package, first, count in (("alpha", 0, 12), ("beta", 100, 6), ("held", 200, 5)):
        (root / package).mkdir()
        for number in range(first, first + count):
            python = [f'"""Module {number}."""\n\nimport math\n']
            script = [f"'use strict';\n// module {number}\n"]
            for part in range(number, number + 6):
                python.append(f"def grow_{part}(value):\n    if value > {part}:\n        return math.sqrt(value)\n")
                script.append(
                    f"function grow{part}(value) {{\n  return value > {part} ? Math.sqrt(value) : null;\n}}\n"
                )
            (root / package / f"m{number}.py").write_text("\n".join(python))
            (root / package / f"m{number}.js").write_text("\n".join(script))
    return root


@pytest.fixture(scope="session")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two problems in each of two languages, in MultiPL-E's format. `one` is solved by any comment, `two` by 2."""
    root = tmp_path_factory.mktemp("problems")
    texts = {
        "py": ("def {0}():\n    return {1}", "assert {0}() == {1}\n", "#"),
        "js": ("const assert = require('node:assert');\nconst {0} = () => {1}", "assert.equal({0}(), {1});\n", "//"),
    }
    for language, (prompt, tests, comment) in texts.items():
        rows = [
            {"name": name, "language": language, "prompt": prompt.format(name, value), "stop_tokens": ["\n"],
             "tests": tests.format(name, number)}
            for name, value, number in (("one", f"1 {comment}", 1), ("two", "", 2))
        ]  # fmt: skip
        (root / f"{language}.json").write_text(json.dumps(rows))
    return root


@pytest.fixture(scope="session")
def tiny(corpus: Path, problems: Path) -> list[str]:
    """The arguments of `codechoir run` for recipes/tiny.yaml on the small corpus and problems; needs no network."""
    values = {
        "curate.sources": [{"kind": "folder", "path": str(corpus), "licence": "MIT"}],
        "curate.held_out": {"python": ["held"], "javascript": ["held"]},
        "curate.decontaminate.against": [],
        "problems.source": str(problems),
        "train.trunk_sequences": 8,
        "train.expert_sequences": 8,
        "train.checkpoint_seconds": 0,
        "generate.held_out_documents": 5,
    }
    return ["run", str(TINY), *(part for name, value in values.items() for part in ("--set", f"{name}={value}"))]


@pytest.fixture(scope="session")
def finished_run(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, made by a fresh interpreter. Tests that change it copy it first."""
    root = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-c", "from codechoir.cli.main import main; main()", *tiny, "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CODECHOIR_CACHE": str(root / "cache")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "run/report/index.html\n"
    assert "Loading weights" not in done.stderr  # transformers' own progress
    return root / "run"


# Small models and the documents that fit their routers, built once a session.

Vary = Callable[..., Path]

# Lines that tell a language apart, as its keywords do.
_LINES = {
    "python": ("def {}(self):\n", "    return {} + 1\n", "import {}\n", "for {} in items:\n", "    # {}\n"),
    "java": ("public final class {} {{\n", "    private int {};\n", "    @Override\n", "    String {}() {{ }}\n"),
    "cpp": ("#include <{}.h>\n", "std::vector<{}> all;\n", "template <typename {}>\n", "    auto& {} = *this;\n"),
}


def _source_file(language: str, seed: int, num_lines: int) -> str:
    rng = random.Random(f"{language}:{seed}")
    names = ("alpha", "beta", "gamma", "size", "value", "other", "left", "right")
    return "".join(rng.choice(_LINES[language]).format(rng.choice(names)) for _ in range(num_lines))


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curate's documents folder, in small: three languages, 20 training and 5 held-out files each."""
    from codechoir.documents import DOCUMENT_SCHEMA, write_parquet

    folder = tmp_path_factory.mktemp("documents")
    for language in _LINES:
        rows = [
            {
                "key": f"{language}-{number}",
                "package": f"package-{number % 4}",
                "content": _source_file(language, number, 12 + number),
                "split": "train" if number < 20 else "held_out",
            }
            for number in range(25)
        ]
        write_parquet(folder / language / "part.parquet", rows, DOCUMENT_SCHEMA)
    return folder


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the random two-layer model, as it is made for a recipe."""
    from codechoir.model.config import RandomBase
    from codechoir.model.sources import prepare

    return prepare(RandomBase(), tmp_path_factory.mktemp("cache")).folder


@pytest.fixture(scope="session")
def vary() -> Vary:
    """`vary(source, out, seed, chosen, scale)`: a copy of a model with noise on the tensors whose name is chosen."""
    import torch

    from codechoir.model.checkpoint import open_checkpoint, write_checkpoint

    def vary(
        source: Path,
        out: Path,
        seed: int,
        chosen: Callable[[str], bool] = lambda name: ".mlp." in name,
        scale: float = 0.1,
    ) -> Path:
        checkpoint = open_checkpoint(source)
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: (tensor + scale * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
            if chosen(name)
            else tensor
            for name, tensor in checkpoint.items()
        }
        write_checkpoint(out, checkpoint.config, tensors, tokenizer=source)
        return out

    return vary


@pytest.fixture(scope="session")
def trunk(random_base: Path, vary: Vary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model with weights large enough that every part of it shows in the logits."""
    return vary(random_base, tmp_path_factory.mktemp("models") / "trunk", 1, lambda name: "norm" not in name, 0.15)


@pytest.fixture(scope="session")
def experts(trunk: Path, vary: Vary, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An expert a language: the trunk with other feed-forward weights."""
    folder = tmp_path_factory.mktemp("experts")
    return {language: vary(trunk, folder / language, seed) for seed, language in enumerate(_LINES, 2)}


@pytest.fixture(scope="session")
def compose_config() -> ComposeConfig:
    """Budgets that suit the small documents."""
    from codechoir.compose.config import ComposeConfig

    return ComposeConfig(
        fit_sequences=4, calibration_sequences=2, sequence_length=64, prompt_documents=20, proof_tokens=32
    )


@pytest.fixture(scope="session")
def compose_inputs(trunk: Path, experts: dict[str, Path], documents: Path) -> ComposeInputs:
    """The small models and documents, as the compose stage takes them."""
    from codechoir.compose.stage import ComposeInputs

    return ComposeInputs(trunk, experts, documents, {"train": "t", "documents": "d"})


@pytest.fixture(scope="session")
def composition(
    compose_config: ComposeConfig, compose_inputs: ComposeInputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    """The composed folder of the small experts, and its manifest. Tests read it and leave it as it is."""
    from codechoir.compose.stage import compose

    folder = tmp_path_factory.mktemp("composed") / "compose"
    return folder, compose(compose_config, compose_inputs, folder)


@pytest.fixture(scope="session")
def composed(composition: tuple[Path, Manifest]) -> Path:
    """The composed folder of the small experts."""
    return composition[0]


@pytest.fixture(scope="session")
def embedded_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real 135M base, converted anew, once for all workers; its archive is the user's cache's or the registry's."""
    from codechoir.artifacts import cache_dir, locked
    from codechoir.model.config import EMBEDDED
    from codechoir.model.sources import prepare

    own = tmp_path_factory.getbasetemp()
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "embedded"
    with locked(cache):
        if not (cache / "packages").exists():
            (cache_dir() / "packages").mkdir(parents=True, exist_ok=True)
            (cache / "packages").symlink_to(cache_dir() / "packages")
        return prepare(EMBEDDED, cache).folder
