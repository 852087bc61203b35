"""mergekit's environment, what it is asked to do, and what we are asked to do beside it. `measure` runs the commands.

Each contestant is one process from its start to its end: imports, reading, gates, writing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.compose.layout import expert_options, read_prompts
from bench.compose.measure import Measured, measure

# torch first: the next line's resolver would take it anyway, in another build
REQUIREMENTS = (("torch==2.13.0",), ("mergekit==0.1.5",))
TOLD = ("mergekit", "torch", "transformers")
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

# Ours reads as many tokens as mergekit's prompts have: eight tenths to fit the token routers, the rest to calibrate.
FITS = {
    "few": ("fit_sequences=8", "calibration_sequences=2", "sequence_length=64", "prompt_documents=10"),
    "default": (),
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One command to compose the same experts. `beside`: mergekit's contestant that it is compared with."""

    name: str
    gates: str  # random (mergekit), none (ours), or the volume of text
    proofs: bool = False
    beside: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.beside is not None


CONTESTANTS = (
    Contestant("mergekit, random gates", "random"),
    Contestant("mergekit, prompts", "few"),
    Contestant("ours, no fit", "none", beside="mergekit, random gates"),
    Contestant("ours, no fit, proofs", "none", proofs=True, beside="mergekit, random gates"),
    Contestant("ours, as much text", "few", beside="mergekit, prompts"),
    Contestant("ours, as much text, proofs", "few", proofs=True, beside="mergekit, prompts"),
    Contestant("ours, as it comes", "default", proofs=True, beside="mergekit, prompts"),
)


def prepare_environment(folder: Path) -> Path:
    """Makes mergekit's environment where it is missing, and returns its folder of programs."""
    mark = folder / "requirements.txt"
    wanted = "\n".join(line for lines in REQUIREMENTS for line in lines)
    if not (mark.is_file() and mark.read_text() == wanted):
        sys.stderr.write("installing mergekit\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for lines in REQUIREMENTS:
            subprocess.run([*pip, *lines], check=True)
        mark.write_text(wanted)
    return folder / "bin"


def versions(programs: Path) -> dict[str, str]:
    """What is installed in an environment, of what matters."""
    code = f"from importlib.metadata import version\nfor name in {TOLD!r}: print(name, version(name))"
    told = subprocess.run([programs / "python", "-c", code], check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in told.splitlines())  # type: ignore[misc]


def run(contestant: Contestant, inputs: Path, programs: Path, work: Path) -> Measured:
    """One measured run; what it writes is removed."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    if contestant.is_ours:
        command = our_command(inputs, out, contestant.gates)
        command += ["--set", f"prove={str(contestant.proofs).lower()}"]
    else:
        config = work / f"{contestant.gates}.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(_config(contestant.gates, inputs)), encoding="utf-8")  # JSON is YAML
        command = [str(programs / "mergekit-moe"), str(config), str(out)]
    measured = measure(command, work / "log.txt", NO_NETWORK)
    shutil.rmtree(out, ignore_errors=True)
    return measured


def our_command(inputs: Path, out: Path, gates: str = "none") -> list[str]:
    """`codechoir compose` of all experts in a folder of inputs."""
    codechoir = str(Path(sys.executable).with_name("codechoir"))
    command = [codechoir, "compose", "--base", str(inputs / "base"), *expert_options(inputs), "--out", str(out)]
    if gates != "none":
        command += ["--documents", str(inputs / "documents")]
        command += [text for pair in FITS[gates] for text in ("--set", pair)]
    return command


def _config(gates: str, inputs: Path) -> dict[str, Any]:
    chosen = read_prompts(inputs)["few" if gates == "random" else gates]
    return {
        "base_model": str(inputs / "base"),
        "gate_mode": "random" if gates == "random" else "hidden",
        "dtype": "bfloat16",
        "experts": [{"source_model": str(inputs / name), "positive_prompts": texts} for name, texts in chosen.items()],
    }


def measure_all(inputs: Path, programs: Path, work: Path, rounds: int, tell: Any) -> dict[str, Any]:
    """Every contestant once a round, so that noise hits all alike."""
    runs: dict[str, list[dict[str, Any]]] = {each.name: [] for each in CONTESTANTS}
    for number in range(rounds):
        for contestant in CONTESTANTS:
            measured = run(contestant, inputs, programs, work)
            runs[contestant.name].append(asdict(measured))
            tell(f"round {number + 1}, {contestant.name}", measured)
    return {"runs": runs, "versions": versions(programs)}
