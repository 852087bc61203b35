"""The benchmark's run: inputs, measurements, page. `python -m bench.compose --out PAGE`

Everything made on the way lies below build/bench/compose and is used again; the large model's files are removed.
What was measured is kept there, too, and taken up by --resume.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.compose.copying import measure_copying
from bench.compose.measure import Measured
from bench.compose.peer import measure_all, our_command, prepare_environment
from bench.compose.quality import NEEDED, read_quality
from bench.compose.report import Results, page
from bench.kept import Kept
from bench.pages import command_given, page_parser, run_program, write_page

COMMANDS = ("mergekit", "copy", "fit")  # parts whose commands are run --rounds times
PARTS = ("mergekit", "copy", "speed", "fit", "backends", "quality")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run."""

    small: str  # which inputs
    large: str
    rounds: int  # of commands
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    batches: tuple[int, ...] = (1, 16)
    context: int = 512
    speed_rounds: int = 15
    speed_seconds: float = 120.0  # at most, for one task at one batch size, but for three rounds
    fit_sequences: int = 32  # a language, of `context` tokens
    fit_calibration: int = 4
    backend_tokens: int = 32  # of each of four texts: batched_mm copies the weights of each token


FULL = Sizes("small", "large", rounds=3)
QUICK = Sizes(
    "tiny",
    "tiny-large",
    rounds=1,
    context=64,
    batches=(1, 4),
    speed_rounds=3,
    speed_seconds=5,
    fit_sequences=4,
    fit_calibration=2,
    backend_tokens=32,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things lie, and what is run."""

    work: Path
    sizes: Sizes
    mergekit_env: Path | None
    run: Path | None

    def inputs(self, kind: str) -> Path:
        """A folder of inputs, made where it is missing."""
        folder = self.work / "inputs" / kind
        _python("bench.compose.inputs", str(folder), kind)
        return folder

    def composed(self) -> Path:
        """The small experts composed, without a fit."""
        folder = self.work / "composed" / self.sizes.small
        command = [*our_command(self.inputs(self.sizes.small), folder), "--set", "prove=false"]
        subprocess.run(command, check=True, stdout=sys.stderr)  # does nothing where it is finished
        return folder

    def child(self, part: str, settings: dict[str, Any]) -> Any:
        """What a part finds that is measured within one process of its own."""
        out = self.work / f"{part}.out.json"
        _python(f"bench.compose.{part}", json.dumps(settings), str(out))
        return json.loads(out.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and writes the page."""
    parser = page_parser("compose", __doc__)
    parser.add_argument("--work", type=Path, default=Path("build/bench/compose"), help="where everything else lies")
    parser.add_argument("--quick", action="store_true", help="random toy models and one round: to see that it runs")
    parser.add_argument("--rounds", type=int, help="runs of each command; the median counts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--resume", action="store_true", help="take parts that lie measured in --work as they are")
    parser.add_argument("--mergekit-env", type=Path, help="an environment that has mergekit; none: one is made")
    parser.add_argument("--run", type=Path, help="a finished run whose routers' quality is told, such as runs/default")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = Sizes(**{**asdict(sizes), "rounds": options.rounds})
    bench = Bench(options.work.resolve(), sizes, options.mergekit_env, options.run)
    text = page(_results(bench, options.only, command_given("compose"), resume=options.resume))
    write_page(text, options.out)
    return 0


def _results(bench: Bench, parts: Sequence[str], command: str, *, resume: bool) -> Results:
    results = Results(command, bench.sizes.small == QUICK.small)
    kept, sizes = Kept(bench.work, results.is_quick), asdict(bench.sizes)
    for part in PARTS:
        told = kept.read(part, sizes) if resume and part != "quality" else None  # which is read from the run at once
        if not told and part in parts and (found := MEASURE[part](bench)) is not None:
            told = kept.write(part, sizes, {"found": found})
        if told:
            results.parts[part] = told["found"]
            if part in COMMANDS:
                results.rounds[part] = told["sizes"]["rounds"]
    return results


def _mergekit(bench: Bench) -> Any:
    programs = bench.mergekit_env / "bin" if bench.mergekit_env else prepare_environment(bench.work / "mergekit")
    return measure_all(bench.inputs(bench.sizes.small), programs, bench.work / "peer", bench.sizes.rounds, _tell)


def _copy(bench: Bench) -> Any:
    found = measure_copying(bench.inputs(bench.sizes.large), bench.work / "copying", bench.sizes.rounds, _tell)
    shutil.rmtree(bench.work / "inputs" / bench.sizes.large)
    return found


def _speed(bench: Bench) -> Any:
    sizes = bench.sizes
    amount: dict[str, Any] = {"dtypes": sizes.dtypes, "batches": sizes.batches, "context": sizes.context}
    amount |= {"rounds": sizes.speed_rounds, "seconds": sizes.speed_seconds}
    return bench.child("speed", amount | _models(bench))


def _fit(bench: Bench) -> Any:
    sizes = bench.sizes
    amount = {"sequences": sizes.fit_sequences, "calibration": sizes.fit_calibration, "length": sizes.context}
    inputs = str(bench.inputs(sizes.small))
    return bench.child("fitting", amount | {"inputs": inputs, "rounds": sizes.rounds})


def _backends(bench: Bench) -> Any:
    return bench.child(
        "backends", _models(bench) | {"length": bench.sizes.backend_tokens, "dtypes": bench.sizes.dtypes}
    )


def _quality(bench: Bench) -> Any:
    if bench.run is None:
        return None
    missing = [name for name in NEEDED if not (bench.run / name).is_file()]
    if missing:
        sys.exit(f"bench.compose: {bench.run} is no finished run: no {missing[0]}")
    return read_quality(bench.run)


MEASURE = {
    "mergekit": _mergekit,
    "copy": _copy,
    "speed": _speed,
    "fit": _fit,
    "backends": _backends,
    "quality": _quality,
}


def _models(bench: Bench) -> dict[str, str]:
    inputs = bench.inputs(bench.sizes.small)
    return {"base": str(inputs / "base"), "documents": str(inputs / "documents"), "composed": str(bench.composed())}


def _python(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def _tell(what: str, measured: Measured) -> None:
    told = f"{measured.seconds:8.2f} s {measured.peak_mib:8.0f} MiB"
    if measured.exit_code:
        told = f"exit code {measured.exit_code}: {measured.last_line}"
    sys.stderr.write(f"{what:>40}  {told}\n")


if __name__ == "__main__":
    run_program(main)
