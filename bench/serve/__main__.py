"""The benchmark's run: inputs, measurements, page. `python -m bench.serve --out PAGE`

The base is the one that is embedded, its experts have other random feed-forward weights: what is measured is speed and
answers, not sense. Everything made on the way lies below build/bench/serve and is used again; so does what was
measured, part by part, for --resume.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.compose.peer import our_command
from bench.kept import Kept
from bench.pages import command_given, page_parser, run_program, write_page
from bench.serve.clients import MAX_BODY, paced, storm
from bench.serve.engines import Prompts, measure_batching, measure_decoding, measure_exactness
from bench.serve.report import Part, Results, page
from bench.serve.server import serving
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.decoding import Vocabulary

PARTS = ("decode", "batching", "overhead", "exact", "storm")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run."""

    inputs: str  # of bench.compose.inputs
    rounds: int
    batches: tuple[int, ...]
    tokens: int  # a sequence
    clients: int
    exact: int  # requests
    rate: float  # paced requests a second
    seconds: float
    storm: int  # requests


FULL = Sizes("small", 5, (1, 8, 32), 64, 16, 64, 200, 30, 10_000)
QUICK = Sizes("tiny", 2, (1, 4), 16, 4, 16, 50, 2, 300)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things lie, and how much is run."""

    work: Path
    sizes: Sizes

    def inputs(self, kind: str) -> Path:
        """A base, experts, documents and prompts."""
        folder = self.work / "inputs" / kind
        subprocess.run([sys.executable, "-m", "bench.compose.inputs", str(folder), kind], check=True)
        return folder

    def composed(self, kind: str) -> Path:
        """Their experts composed, with a prompt router."""
        inputs, folder = self.inputs(kind), self.work / "composed" / kind
        command = [*our_command(inputs, folder), "--documents", str(inputs / "documents"), "--set", "prove=false"]
        command += ["--set", "fit_sequences=4", "--set", "calibration_sequences=2", "--set", "prompt_documents=40"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # does nothing where it is finished
        return folder

    def prompts(self) -> Prompts:
        """By language."""
        told = json.loads((self.inputs(self.sizes.inputs) / "prompts.json").read_text(encoding="utf-8"))
        found: Prompts = told["few"]
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and writes the page."""
    parser = page_parser("serve", __doc__)
    parser.add_argument("--work", type=Path, default=Path("build/bench/serve"), help="where everything else lies")
    parser.add_argument("--quick", action="store_true", help="toy models and few rounds: to see that it runs")
    parser.add_argument("--rounds", type=int, help="of each measurement; the median counts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--resume", action="store_true", help="take parts that lie measured in --work as they are")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    bench = Bench(options.work.resolve(), sizes)
    text = page(Results(command_given("serve"), options.quick, _parts(bench, options.only, resume=options.resume)))
    write_page(text, options.out)
    return 0


def _parts(bench: Bench, wanted: Sequence[str], *, resume: bool) -> dict[str, Part]:
    """What was measured, now or, to be resumed, with the same sizes; rounds may have been more or fewer."""
    parts: dict[str, Part] = {}
    kept, sizes = Kept(bench.work, bench.sizes.inputs == QUICK.inputs), asdict(bench.sizes)
    for name in PARTS:
        if resume and (earlier := kept.read(name, sizes)):
            parts[name] = Part(**earlier)
        elif name in wanted:
            parts[name] = Part(**kept.write(name, sizes, {"found": MEASURE[name](bench)}))
    return parts


def _decode(bench: Bench) -> Any:
    kind = bench.sizes.inputs
    folders = {"base": bench.inputs(kind) / "base", "moe": bench.composed(kind)}
    return measure_decoding(folders, bench.prompts(), bench.sizes, _tell)


def _batching(bench: Bench) -> Any:
    return measure_batching(bench.composed(bench.sizes.inputs), bench.prompts(), bench.sizes, _tell)


def _exact(bench: Bench) -> Any:
    return measure_exactness(bench.composed(bench.sizes.inputs), bench.prompts(), bench.sizes, _tell)


def _overhead(bench: Bench) -> Any:
    model = f"tiny={bench.inputs('tiny') / 'base'}"
    with serving([model], bench.work / "server", {}) as server:
        asyncio.run(paced(server, bench.sizes.rate, 1))  # warms up
        measured = asyncio.run(paced(server, bench.sizes.rate, bench.sizes.seconds))
    times = measured.times
    found = {"number": len(times), "refused": measured.refused, "median": median(times)}
    found["p99"] = quantiles(times, n=100)[98]
    _tell("overhead", f"median {found['median']:.2f} ms, p99 {found['p99']:.2f} ms, {measured.refused} refused")
    return found


def _storm(bench: Bench) -> Any:
    folder = bench.composed("tiny")
    vocabulary = Vocabulary(load_tokenizer(folder))

    def count(prompt: str) -> int:
        return 1 + len(vocabulary.encode(prompt))  # after a separator

    settings: dict[str, object] = {"max_body_bytes": MAX_BODY, "max_sequences": 16}
    with serving([f"choir={folder}"], bench.work / "server", settings) as server:
        return asyncio.run(storm(server, bench.sizes.storm, count, _tell))


MEASURE = {"decode": _decode, "batching": _batching, "overhead": _overhead, "exact": _exact, "storm": _storm}


def _tell(what: str, text: str) -> None:
    sys.stderr.write(f"{what:>20}  {text}\n")


if __name__ == "__main__":
    run_program(main)
