"""The generate stage: every model scores held-out files and completes problems.

Out, a folder a model: `LANG.likelihood.jsonl` (LogLikelihood a line), `LANG.jsonl` (Completion a line), and
`model.json` (its speed and active parameters), written when the model is through. Judges nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.artifacts import Manifest, StageFolder, write_json
from codechoir.console import Progress
from codechoir.documents import Text, in_seeded_order, in_turn, read_texts
from codechoir.generate.config import GenerateConfig
from codechoir.generate.models import Folders, home_language, is_oracle, load, model_ids
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.engine import Engine, Request
from codechoir.problems import ProblemSet
from codechoir.records import (
    Completion,
    LogLikelihood,
    Problem,
    RecordT,
    append_record,
    complete_records,
    read_json,
    write_records,
)

VERSION = 2
MODEL_JSON = "model.json"


@dataclass(frozen=True, slots=True)
class GenerateInputs:
    """The models, the held-out documents, the problems, and the digests that stand for them."""

    folders: Folders
    documents: Path
    problems: ProblemSet
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Work:
    """What one model still has to do."""

    model: str
    score: Mapping[str, Sequence[Text]]  # language -> texts
    complete: Mapping[str, Sequence[tuple[Problem, int]]]  # language -> (problem, sample)

    @property
    def num_items(self) -> int:
        return sum(map(len, self.score.values())) + sum(map(len, self.complete.values()))


def generate(config: GenerateConfig, languages: Sequence[str], inputs: GenerateInputs, out: Path) -> Manifest:
    """Runs what is not yet done under `out` and returns the manifest."""
    settings = config.model_dump(mode="json", exclude={"batch_size", "score_batch_size"}) | {
        "languages": list(languages)
    }
    folder = StageFolder(out, "generate", VERSION, settings, inputs.digests)
    if finished := folder.finished():
        return finished
    folder.begin()
    held_out = {name: choose(read_texts(inputs.documents, name, "held_out"), config) for name in languages}
    scored, completed = model_ids(config.score, languages), model_ids(config.complete, languages)
    models = list(dict.fromkeys([*scored, *completed]))
    for model in models:
        if (out / model / MODEL_JSON).exists():
            continue
        problems = inputs.problems.problems if model in completed else {}
        work = _Work(
            model,
            {
                name: _unscored(out, model, name, held_out[name], config.score_batch_size)
                for name in languages
                if model in scored
            },
            {
                name: _uncompleted(out, model, name, problems[name], config)
                for name in languages
                if name in problems and home_language(model) in (None, name)
            },
        )
        write_json(out / model / MODEL_JSON, _run(work, inputs.folders, config, out))
        folder.save_time()
    facts = {model: read_json(out / model / MODEL_JSON) for model in models}
    return folder.finish({"models": facts, "skipped": dict(inputs.problems.skipped)})


def choose(texts: Sequence[Text], config: GenerateConfig) -> list[Text]:
    """The held-out files to score: taken in turn from each package, in a seeded order."""
    return in_turn(in_seeded_order(texts, config.seed))[: config.held_out_documents]


def _run(work: _Work, folders: Folders, config: GenerateConfig, out: Path) -> dict[str, Any]:
    """Does a model's work, appending each record as it comes, and returns its figures."""
    loaded = load(work.model, folders, compute_dtype(config.precision))
    model = loaded.model.to(compute_device())
    tokenizer = load_tokenizer(folders.tokenizer(work.model))
    scorer = Engine(model, tokenizer, config.score_batch_size)
    writer = Engine(model, tokenizer, config.batch_size)
    with Progress(f"generate {work.model}", work.num_items, "items") as bar:
        for language, texts in work.score.items():
            for scored in _scored(scorer, work.model, language, texts, config.held_out_tokens):
                append_record(_likelihoods(out, work.model, language), scored)
                bar.advance(1, f"{scorer.tokens_per_second} tokens/s")
        for language, tasks in work.complete.items():
            for completed in _completed(writer, work.model, language, tasks, config):
                append_record(_completions(out, work.model, language), completed)
                bar.advance(1, f"{writer.tokens_per_second} tokens/s")
    return {
        "active_parameters": loaded.active_parameters,
        "scored_tokens_per_second": scorer.tokens_per_second,
        "generated_tokens_per_second": writer.tokens_per_second,
    }


def _scored(
    engine: Engine, model: str, language: str, texts: Sequence[Text], max_tokens: int
) -> Iterator[LogLikelihood]:
    """The log-likelihood of each text, as batches are done."""
    experts = [language] * len(texts) if is_oracle(model) else None
    for index, scored in engine.log_likelihoods([text.content for text in texts], max_tokens, experts):
        yield LogLikelihood(
            model=model,
            language=language,
            key=texts[index].key,
            package=texts[index].package,
            num_bytes=scored.num_bytes,
            num_tokens=scored.num_tokens,
            log_likelihood=scored.log_likelihood,
            route=scored.route,
        )


def _completed(
    engine: Engine, model: str, language: str, tasks: Sequence[tuple[Problem, int]], config: GenerateConfig
) -> Iterator[Completion]:
    """The completion of each (problem, sample), as batches are done."""
    requests = [
        Request(
            problem.prompt,
            problem.stop_tokens,
            config.max_tokens,
            config.temperature,
            config.top_p,
            sample_seed(config.seed, problem.name, sample),
            language if is_oracle(model) else None,
        )
        for problem, sample in tasks
    ]
    for index, output in engine.complete(requests):
        problem, sample = tasks[index]
        yield Completion(
            model=model,
            language=language,
            problem=problem.name,
            sample=sample,
            seed=requests[index].seed,
            temperature=config.temperature,
            text=output.text,
            finish=output.finish,
            num_tokens=output.num_tokens,
            route=output.route,
        )


def _unscored(out: Path, model: str, language: str, texts: Sequence[Text], batch_size: int) -> list[Text]:
    path = _likelihoods(out, model, language)
    done = {record.key for record in _whole_batches(LogLikelihood, path, len(texts), batch_size)}
    return [text for text in texts if text.key not in done]


def _uncompleted(
    out: Path, model: str, language: str, problems: Sequence[Problem], config: GenerateConfig
) -> list[tuple[Problem, int]]:
    tasks = [(problem, sample) for problem in problems for sample in range(config.num_samples)]
    records = _whole_batches(Completion, _completions(out, model, language), len(tasks), config.batch_size)
    done = {(record.problem, record.sample) for record in records}
    return [(problem, sample) for problem, sample in tasks if (problem.name, sample) not in done]


def _whole_batches(kind: type[RecordT], path: Path, num_tasks: int, batch_size: int) -> list[RecordT]:
    """The records of the batches that a killed run finished; the file is cut after them.

    What else is in a batch moves the last bits of a sequence's logits, so a batch is resumed as a whole: the result is
    the same as without the kill.
    """
    records = complete_records(kind, path)
    num_whole = len(records) if len(records) == num_tasks else len(records) - len(records) % batch_size
    if num_whole < len(records):
        write_records(path, records[:num_whole])
    return records[:num_whole]


def _likelihoods(out: Path, model: str, language: str) -> Path:
    return out / model / f"{language}.likelihood.jsonl"


def _completions(out: Path, model: str, language: str) -> Path:
    return out / model / f"{language}.jsonl"


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """The seed of one sample; the same for every model, so that models are compared in pairs."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{problem}:{sample}".encode()).digest()[:6])
