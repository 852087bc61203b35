"""Tells the benchmark's results as a Markdown page. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median, quantiles
from typing import Any

from bench.compose.copying import FORMS
from bench.compose.peer import CONTESTANTS, FITS
from bench.compose.quality import ORACLE, PROMPT, TOKEN, UNIFORM
from bench.compose.timing import DENSE
from bench.pages import machine, met, table
from codechoir.model.routing_gap import recovered

MIN_SPEED_UP = 3.0  # to mergekit
MAX_MEMORY_SHARE = 0.5
MAX_COPIES = 1.5  # of the time that cp takes
MAX_BEYOND_SHARD_MIB = 300e6 / 2**20
MAX_RATIO = {"forward": 1.1, "decode": 1.15}
MAX_PROMPT_RATIO = 1.03
MAX_PASSES = 3.0
MAX_PROMPT_LOSS = 0.002
MIN_PROMPT_ACCURACY, FROM_TOKENS = 0.99, 256
OUR_PACKAGES = ("codechoir", "torch", "transformers", "safetensors", "numpy")
TASKS = {"forward": "forward pass", "decode": "decoding step"}


@dataclass(slots=True)
class Results:
    """Everything that was measured: what each part found. A part that was not run is missing."""

    command: str
    is_quick: bool  # toy sizes
    parts: dict[str, Any] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)  # of each part in which commands are run


def page(results: Results) -> str:
    """The whole page."""
    tell: dict[str, Callable[[Any], list[str]]] = {
        "mergekit": _mergekit,
        "copy": _copy,
        "speed": _speed,
        "fit": _fit,
        "backends": _backends,
        "quality": _quality,
    }
    parts = [
        "# Composing beside mergekit, cp and stock Mixtral",
        f"Made by `{results.command}`. {machine()} Medians, of interleaved rounds, with the smallest and the largest "
        f"in brackets. Rounds: {', '.join(f'{name} {rounds}' for name, rounds in results.rounds.items()) or 'none'}.",
    ]
    if results.is_quick:
        parts.append("A QUICK RUN on toy models: the sizes told below are the full run's, the figures are not.")
    for name, section in tell.items():
        if name in results.parts:
            parts += section(results.parts[name])
    if "quality" not in results.parts:
        parts += [_QUALITY, "No finished run was given (`--run runs/default`), so nothing is told of it here."]
    versions = [f"- {name} {version(name)}" for name in OUR_PACKAGES]
    if "mergekit" in results.parts:
        theirs = results.parts["mergekit"]["versions"]
        versions.append("- mergekit's environment: " + ", ".join(f"{name} {each}" for name, each in theirs.items()))
    return "\n\n".join([*parts, "## Versions", "\n".join(versions)]) + "\n"


def _mergekit(found: Any) -> list[str]:
    runs = found["runs"]
    rows = []
    for each in CONTESTANTS:
        seconds, peak = (_values(runs[each.name], key) for key in ("seconds", "peak_mib"))
        if seconds is None or peak is None:
            rows.append([each.name, f"failed: {_failure(runs[each.name])}", "–", "–", "–"])
            continue
        faster = share = "–"
        if each.beside and (theirs := _values(runs[each.beside], "seconds")):
            their_peak = _values(runs[each.beside], "peak_mib") or []
            ratio, memory = median(theirs) / median(seconds), median(peak) / median(their_peak)
            faster = f"{ratio:.2f}x ({met(ratio >= MIN_SPEED_UP)})"
            share = f"{memory:.2f} ({met(memory <= MAX_MEMORY_SHARE)})"
        rows.append([each.name, _spread(seconds, 1), _spread(peak, 0), faster, share])
    fits = ", ".join(f"{name}: `{' '.join(settings)}`" for name, settings in FITS.items() if settings)
    return [
        "## Beside mergekit-moe",
        "Four experts of SmolLM2-135M's shape: the embedded base, and four copies with random feed-forward weights, "
        "all bfloat16. Each line is one process from start to end, imports included; peak is the largest resident "
        "set, pages of mapped files included. *mergekit* runs `gate_mode: hidden` on positive prompts of each expert: "
        "10 of 64 tokens; one forward pass of the base an expert; the last token's states, averaged "
        "over the prompts, are the gates; it computes in bfloat16 whatever the processor, ours in what is "
        "fast there. *Ours* fits token routers and the prompt router on documents, each expert running over its own "
        "language, the temperature calibrated on further text: with *as much text* as the prompts have "
        f"({fits}; the prompt router reads the beginnings of so many documents besides), and *as it comes*: 20 "
        "sequences of 512 tokens and 400 documents a language, with its proofs. mergekit proves nothing. *No fit* and "
        f"*random gates* read no text at all. Asked for, gates included: at least {MIN_SPEED_UP:g}x the speed, at "
        f"most {MAX_MEMORY_SHARE:g} of the memory; *as it comes* reads sixteen times mergekit's text.",
        table(["", "seconds", "peak MiB", "times mergekit's speed", "share of its memory"], rows),
    ]


def _copy(found: Any) -> list[str]:
    runs, sizes = found["runs"], found["sizes"]
    rows = []
    for form in FORMS:
        ours, peak = (_values(runs[form], key) for key in ("seconds", "peak_mib"))
        copied = _values(runs[f"cp after {form}"], "seconds")
        if ours is None or peak is None or not copied:
            rows.append([form, f"failed: {_failure(runs[form])}", *["–"] * 5])
            continue
        ratio, beyond = median(ours) / median(copied), median(peak) - sizes["largest_shard_mib"]
        rows.append(
            [
                form,
                f"{sizes[form]:,.0f}",
                _spread(ours, 1),
                _spread(copied, 1),
                f"{ratio:.2f}x ({met(ratio <= MAX_COPIES)})",
                _spread(peak, 0),
                f"{beyond:+.0f} ({met(beyond <= MAX_BEYOND_SHARD_MIB)})",
            ]
        )
    header = ["experts as", "MiB read", "seconds", "cp, seconds", "ratio", "peak MiB", "beyond the largest shard"]
    return [
        "## Beside copying the bytes",
        "A Llama of 1.3 billion parameters (width 2048, 24 layers, inner width 5504, 32,000 tokens), random, bfloat16, "
        f"four experts; the output has {sizes.get('output_mib', 0):,.0f} MiB, its largest shard "
        f"{sizes.get('largest_shard_mib', 0):,.0f}. `codechoir compose`, without fit and proofs, then `sync`, against "
        "`cp -r --reflink=never` of what it wrote, then `sync`, on the same disk. Nothing is dropped from the page "
        f"cache. Asked for: at most {MAX_COPIES:g}x, and at most 300 MB beyond the largest shard.",
        table(header, rows),
    ]


def _speed(found: Any) -> list[str]:
    rows = []
    for dtype, by_batch in found.items():
        for batch, tasks in by_batch.items():
            if not batch.isdigit():
                continue
            for task, name in TASKS.items():
                dense = tasks[task][DENSE]
                for contestant, seconds in tasks[task].items():
                    ratios = [one / other for one, other in zip(seconds, dense, strict=True)]
                    told = "–" if contestant == DENSE else _judged(contestant, task, ratios)
                    time = f"{1000 * median(seconds):.1f}"
                    rows.append([f"{dtype}, batch {batch}, {name}", contestant, time, told, str(len(seconds))])
    shares = "; ".join(
        f"{dtype}, batch {batch}: {', '.join(f'{share:.0%}' for share in tasks['shares'])}"
        for dtype, by_batch in found.items()
        for batch, tasks in by_batch.items()
        if batch.isdigit()
    )
    backends = " and ".join(sorted({by_batch["mixtral_backend"] for by_batch in found.values()}))
    return [
        "## Speed of the composed model",
        "On the CPU, of SmolLM2-135M's shape with four experts. *Forward pass*: 512 tokens, no cache, the last "
        "position's logits, as generation begins. *Decoding step*: one token after 512 in the cache. One process, "
        "every contestant once a round in turning order; the ratio is the median of the ratios to the dense model in "
        "the same round, with the quartiles. *Dense, again* is the same model measured twice: what differs there is "
        "noise. *Mixed languages*: sequences of one batch go to different experts. Token routers are random, so that "
        f"tokens spread evenly, which is the worst case ({shares}). Stock Mixtral is transformers' own class on the "
        f"same weights and routers, on the backend that it chooses ({backends}). Asked for, of ours: forward at most "
        f"{MAX_RATIO['forward']:g}x, decoding at most {MAX_RATIO['decode']:g}x, prompt routing at most "
        f"{MAX_PROMPT_RATIO:g}x.",
        table(["", "model", "ms", "times dense (quartiles)", "rounds"], rows),
    ]


def _judged(contestant: str, task: str, ratios: Sequence[float]) -> str:
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else [ratios[0]] * 3
    told = f"{median(ratios):.3f} ({low:.3f}–{high:.3f})"
    if contestant.startswith(("prompt", "token")):
        most = MAX_PROMPT_RATIO if contestant.startswith("prompt") else MAX_RATIO[task]
        told += f", {met(median(ratios) <= most)}"
    return told


def _fit(found: Any) -> list[str]:
    seconds = found["seconds"]
    tokens, further = (sum(found[key].values()) for key in ("tokens", "calibration_tokens"))
    parts = {
        "sums over the experts' states": seconds["sums"],
        "solve": seconds["solve"],
        "the fit: both": [sum(pair) for pair in zip(seconds["sums"], seconds["solve"], strict=True)],
        f"calibration, on {further:,} further tokens": seconds["calibration"],
        "fit and calibration": [
            sum(each) for each in zip(*(seconds[key] for key in ("sums", "solve", "calibration")), strict=True)
        ],
        "one forward pass of the base": seconds["base"],
        "the same without the head": seconds["base_headless"],
    }
    base, headless = seconds["base"], seconds["base_headless"]
    rows = []
    for name, values in parts.items():
        ratio = median(one / other for one, other in zip(values, base, strict=True))
        bare = median(one / other for one, other in zip(values, headless, strict=True))
        judged = f" ({met(ratio < MAX_PASSES)})" if name.startswith(("the fit", "fit and")) else ""
        rows.append([name, _spread(values, 2), f"{ratio:.2f}x{judged}", f"{bare:.2f}x"])
    return [
        "## Fitting the token routers",
        f"Four languages, {tokens:,} tokens in all, {found['dtype']}, one process. Ours reads each expert's weights "
        "from disk layer by layer, as `codechoir compose` does. The base has its weights in memory, and runs once "
        f"over the same tokens in the same batches. Asked for: under {MAX_PASSES:g} of its passes.",
        table(["", "seconds", "passes of the base", "passes without the head"], rows),
    ]


def _backends(found: Any) -> list[str]:
    rows = [
        [
            dtype,
            route,
            backend,
            f"{one['absolute']:.2e}",
            f"{one['absolute'] / one['largest']:.1e}",
            f"{one['same_best']:.2%}",
        ]
        for dtype, routes in found.items()
        for route, backends in routes.items()
        for backend, one in backends.items()
    ]
    header = ["number format", "route", "backend", "largest difference", "of the largest logit", "same best token"]
    return [
        "## Expert backends",
        "Our model class on transformers' other expert backends, against its own eager one: the largest difference of "
        "a logit over four texts. *Fixed*: every token goes to one expert. In token routing a rounding may send a "
        "token to another expert, and then it is that expert's logits that differ.",
        table(header, rows),
    ]


_QUALITY = "## Quality of the routers on a finished run"


def _quality(found: Any) -> list[str]:
    bits, languages = found["bits"], found["languages"]
    models = [model for model in (ORACLE, PROMPT, *TOKEN, UNIFORM) if model in bits]
    columns = [*languages, "mean"]
    rows = [[model, *(f"{bits[model][name]:.4f}" for name in columns)] for model in models]
    losses = {name: bits[PROMPT][name] / bits[ORACLE][name] - 1 for name in languages}
    rows.append(["prompt to oracle", *(f"{losses[name]:+.2%}" for name in languages), "–"])
    for model in (*TOKEN, PROMPT):
        shares = [recovered(*(bits[each][name] for each in (UNIFORM, ORACLE, model))) for name in columns]
        rows.append([f"{model}, of the gap", *("no gap" if share is None else f"{share:.0%}" for share in shares)])
    verdicts = [
        f"Prompt routing within {MAX_PROMPT_LOSS:.1%} of the oracle in every language: "
        f"{met(all(loss <= MAX_PROMPT_LOSS for loss in losses.values()))}."
    ]
    for model in TOKEN:
        better = bits[model]["mean"] <= bits[ORACLE]["mean"]
        verdicts.append(f"{model} at least as good as the oracle on the mean: {met(better)}.")
    worst = min(share for length, share in found["accuracy"].items() if int(length) >= FROM_TOKENS)
    accuracy = [
        [length, f"{share:.1%}", *(f"{found['accuracy_by_language'][name][length]:.1%}" for name in languages)]
        for length, share in found["accuracy"].items()
    ]
    documents = ", ".join(f"{name} {number}" for name, number in found["documents"].items())
    load = [
        [model, language, *(f"{shares.get(name, 0):.0%}" for name in languages)]
        for model, by_language in found["load"].items()
        for language, shares in by_language.items()
    ]
    return [
        _QUALITY,
        f"Bits per byte on held-out documents ({found['held_out']} a language), the lower the better. *Of the gap*: "
        "the share of the way from uniform to oracle routing; where the oracle is not better by a thousandth, there is "
        f"no gap to recover. {' '.join(verdicts)}",
        table(["routing", *columns], rows),
        f"The prompt router's accuracy by prefix length in tokens (documents: {documents}). Asked for: at least "
        f"{MIN_PROMPT_ACCURACY:.0%} from {FROM_TOKENS} ({met(worst >= MIN_PROMPT_ACCURACY)}: {worst:.1%}).",
        table(["tokens", "all", *languages], accuracy),
        "Load: the share of routing decisions that each expert gets, by the text's language.",
        table(["routing", "text", *languages], load),
    ]


def _values(runs: Iterable[Mapping[str, Any]], key: str) -> list[float] | None:
    """A figure by round; None where a run failed."""
    return [run[key] for run in runs] if all(run["exit_code"] == 0 for run in runs) else None


def _failure(runs: Iterable[Mapping[str, Any]]) -> str:
    return next((str(run["last_line"]).replace("|", "/") for run in runs if run["exit_code"]), "not run")


def _spread(values: Sequence[float], digits: int) -> str:
    told = f"{median(values):,.{digits}f}"
    return told if len(values) == 1 else f"{told} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
