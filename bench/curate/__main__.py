"""The benchmark's run: corpora, environments, measurements, verdicts, page. `python -m bench.curate --out PAGE`

Everything made on the way lies below build/bench and is used again; nothing measured is.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from bench.curate.corpus import corpus_name, natural_files, read_corpus, scaled, write_corpus
from bench.curate.measure import Measured
from bench.curate.oracle import Judge, Near, Verdict, near_pairs, numbered
from bench.curate.peers import common
from bench.curate.planted import LEVELS, read_pairs, write_planted
from bench.curate.report import Recall, Result, Results, Scale, page
from bench.curate.tools import TOOLS, Tool, prepare_environments, run, version
from bench.pages import command_given, page_parser, run_program, write_page

PARTS = ("filters", "dedup", "planted", "linearity")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run."""

    base_mb: float  # the corpus at 1x
    rounds: int
    planted_files: int
    pairs_per_level: int
    scales: tuple[int, ...] = (1, 2, 4, 8)
    main_scale: int = 4  # the scale at which tools are compared


FULL = Sizes(base_mb=44.25, rounds=3, planted_files=5000, pairs_per_level=200)
QUICK = Sizes(base_mb=1.5, rounds=1, planted_files=250, pairs_per_level=10)


@dataclass(slots=True)
class Bench:
    """Where things lie, and what is run."""

    root: Path
    sizes: Sizes
    tools: tuple[Tool, ...]
    parts: tuple[str, ...]
    corpora: dict[str, Path] = field(default_factory=dict)
    num_runs: int = 0

    def main_corpus(self) -> Path:
        return self.corpora[f"{self.sizes.main_scale}x"]

    def run(self, tool: Tool, corpus: Path, label: str) -> Measured:
        """One run, told on stderr."""
        self.num_runs += 1
        work = self.root / "work" / f"{self.num_runs:03d}"
        shutil.rmtree(work, ignore_errors=True)
        measured = run(tool, corpus, self.removed_path(tool, label), work, self.root / "envs")
        shutil.rmtree(work, ignore_errors=True)
        told = f"{measured.seconds:8.2f} s {measured.peak_mib:8.0f} MiB"
        if measured.exit_code:
            told = f"exit code {measured.exit_code}: {measured.last_line}"
        sys.stderr.write(f"{label:>12}  {tool.task:7}  {tool.name:40} {told}\n")
        return measured

    def removed_path(self, tool: Tool, label: str) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in tool.name)
        return self.root / "removed" / f"{label}-{tool.task}-{name}.txt"

    def removed(self, tool: Tool, label: str) -> list[int]:
        return [int(line) for line in self.removed_path(tool, label).read_text().split()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for and writes the page."""
    parser = page_parser("curate", __doc__)
    parser.add_argument("--root", type=Path, default=Path("build/bench"), help="where everything else lies")
    parser.add_argument("--quick", action="store_true", help="a small corpus and one round, in about a minute")
    parser.add_argument("--rounds", type=int, help="runs of each tool; the median counts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--tools", nargs="+", metavar="WORD", help="only tools whose name has one of these words")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = Sizes(sizes.base_mb, options.rounds, sizes.planted_files, sizes.pairs_per_level)
    words = [word.lower() for word in options.tools or [""]]
    tools = tuple(tool for tool in TOOLS if any(word in tool.name.lower() for word in words))
    bench = Bench(options.root.resolve(), sizes, tools, tuple(options.only))
    text = page(_results(bench, command_given("curate")))
    write_page(text, options.out)
    return 0


def _results(bench: Bench, command: str) -> Results:
    _build_corpora(bench)
    environments = sorted({tool.environment for tool in bench.tools if tool.environment})
    prepare_environments(bench.root / "envs", environments)
    envs = bench.root / "envs"
    results = Results(
        command=command,
        rounds=bench.sizes.rounds,
        corpora={name: _shape(path) for name, path in bench.corpora.items()},
        main=f"{bench.sizes.main_scale}x",
        versions={tool.package: version(tool, envs) for tool in bench.tools if tool.package},
    )
    for path in bench.corpora.values():  # all runs find the corpus in the page cache
        for part in path.glob("*.parquet"):
            part.read_bytes()
    for task in ("filters", "dedup"):
        if task in bench.parts:
            results.speed[task] = _speed(bench, [tool for tool in bench.tools if tool.task == task])
    if "planted" in bench.parts:
        results.recall = _recall(bench)
    if "linearity" in bench.parts:
        results.linearity = _linearity(bench)
    (bench.root / "runs.json").write_text(json.dumps(asdict(results), indent=1))
    return results


def _build_corpora(bench: Bench) -> None:
    sizes = bench.sizes
    wanted = {f"{scale}x": round(sizes.base_mb * scale * 1e6) for scale in sizes.scales}
    folder = bench.root / "corpora"
    for name, num_bytes in wanted.items():
        bench.corpora[name] = folder / corpus_name(f"{name}-{num_bytes // 1000}k")
    bench.corpora["planted"] = folder / corpus_name(f"planted-{sizes.planted_files}")
    missing = [name for name, path in bench.corpora.items() if not path.is_dir()]
    if not missing:
        return
    files = natural_files(bench.root / "cache")
    for name in missing:
        sys.stderr.write(f"building the corpus {name}\n")
        if name == "planted":
            pool = files if sizes.planted_files > 1000 else files[:4000]
            write_planted(bench.corpora[name], pool, sizes.planted_files, sizes.pairs_per_level)
        else:
            write_corpus(bench.corpora[name], scaled(files, wanted[name]))


def _shape(corpus: Path) -> Scale:
    sizes, languages = [], set()
    for row in read_corpus(corpus, ("size", "lang")):
        sizes.append(row["size"])
        languages.add(row["lang"])
    return Scale(num_files=len(sizes), megabytes=sum(sizes) / 1e6, languages=tuple(sorted(languages)))


def _speed(bench: Bench, tools: Sequence[Tool]) -> list[Result]:
    """Every tool once a round, so that noise hits all alike; then the verdicts on what they removed."""
    runs: dict[str, list[Measured]] = {tool.name: [] for tool in tools}
    for number in range(bench.sizes.rounds):
        for tool in tools:
            runs[tool.name].append(bench.run(tool, bench.main_corpus(), f"round-{number + 1}"))
    working = [tool for tool in tools if all(one.exit_code == 0 for one in runs[tool.name])]
    labels = [f"round-{number + 1}" for number in range(bench.sizes.rounds)]
    steady = {tool.name: len({tuple(bench.removed(tool, label)) for label in labels}) == 1 for tool in working}
    results = [Result(tool.name, tool.is_ours, tool.target, runs[tool.name], steady.get(tool.name)) for tool in tools]
    if tools and tools[0].task == "filters":
        failing = _failing(bench.main_corpus())
        for result, tool in zip(results, tools, strict=True):
            if tool in working:
                removed = set(bench.removed(tool, labels[-1]))
                result.removed, result.differing = len(removed), len(removed ^ failing)
        return results
    judge = _judge(bench)
    for result, tool in zip(results, tools, strict=True):
        if tool in working:
            result.verdict = judge.verdict(bench.removed(tool, labels[-1]))
    greedy = judge.greedy_removals()
    everything = judge.verdict([])
    exact = Verdict(greedy, 0, 0, 0, everything.num_pairs)
    results.append(Result("exact oracle, greedy (not timed)", False, None, [], True, verdict=exact))
    return results


def _failing(corpus: Path) -> set[int]:
    rows = read_corpus(corpus, ("id", "content"))
    return {row["id"] for row in rows if not common.passes(row["content"])}


def _judge(bench: Bench) -> Judge:
    corpus = bench.main_corpus()
    kept = bench.root / "oracle" / f"{corpus.name}.npz"
    if not kept.is_file():
        sys.stderr.write("finding all near pairs exactly\n")
        near = near_pairs((row["content"] for row in read_corpus(corpus, ("content",))), common.THRESHOLD)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, group_F=near.group_F, pairs_P2=near.pairs_P2, similarity_P=near.similarity_P)
    with np.load(kept, allow_pickle=False) as arrays:
        near = Near(arrays["group_F"], arrays["pairs_P2"], arrays["similarity_P"])
    languages = numbered(row["lang"] for row in read_corpus(corpus, ("lang",)))
    return Judge(near, languages, numbered(row["hexsha"] for row in read_corpus(corpus, ("hexsha",))))


def _recall(bench: Bench) -> list[Recall]:
    corpus = bench.corpora["planted"]
    pairs = read_pairs(corpus)
    found = []
    for tool in bench.tools:
        if tool.task == "dedup" and bench.run(tool, corpus, "planted").exit_code == 0:
            removed = set(bench.removed(tool, "planted"))
            planted = {number for pair in pairs for number in (pair.left, pair.right)}
            found.append(
                Recall(
                    tool.name,
                    {
                        level: _share({pair.left, pair.right} & removed for pair in pairs if pair.level == level)
                        for level in LEVELS
                    },
                    len(removed - planted),
                )
            )
    return found


def _share(found: Iterable[set[int]]) -> float:
    hits = [bool(one) for one in found]
    return sum(hits) / len(hits)


def _linearity(bench: Bench) -> dict[str, dict[str, list[Measured]]]:
    """Runs of ours by task and scale."""
    ours = [tool for tool in bench.tools if tool.is_ours]
    names = [f"{scale}x" for scale in bench.sizes.scales]
    runs: dict[str, dict[str, list[Measured]]] = {tool.task: {name: [] for name in names} for tool in ours}
    for _ in range(bench.sizes.rounds):
        for name in names:
            for tool in ours:
                runs[tool.task][name].append(bench.run(tool, bench.corpora[name], f"linear-{name}"))
    return runs


if __name__ == "__main__":
    run_program(main)
