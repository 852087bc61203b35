"""The generate stage: every model scores held-out files, completes problems and fills in lines of held-out files.

Out, a folder a model: `LANG.likelihood.jsonl` (LogLikelihood a line), `LANG.jsonl` (Completion a line),
`LANG.infill.jsonl` (Infilling a line), and `model.json` (its speed and active parameters), written when the model is
through. Judges nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codechoir.artifacts import Manifest, StageFolder, write_json
from codechoir.console import Progress
from codechoir.documents import Text, in_seeded_order, in_turn, read_texts
from codechoir.generate.config import GenerateConfig
from codechoir.generate.infilling import Gap, Limits, cut_first
from codechoir.generate.models import Folders, home_language, is_oracle, load, model_ids
from codechoir.generate.prompts import check_prompts
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.device import compute_device, compute_dtype, memory_full_told
from codechoir.model.engine import Engine, Request
from codechoir.model.infilling_format import InfillingFormat, infilling_format
from codechoir.problems import ProblemSet
from codechoir.records import (
    Completion,
    Infilling,
    LogLikelihood,
    Problem,
    RecordT,
    append_record,
    complete_records,
    read_json,
    write_records,
)

VERSION = 4
MODEL_JSON = "model.json"
NO_SENTINELS = "its tokenizer has no infilling tokens"


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
    infill: Mapping[str, Sequence[Gap]]  # language -> gaps
    form: InfillingFormat | None  # where there are gaps

    @property
    def num_items(self) -> int:
        return sum(len(each) for part in (self.score, self.complete, self.infill) for each in part.values())


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """What of the held-out files is scored and filled in, by language; the gaps are the same for all models."""

    texts: dict[str, list[Text]]
    gaps: dict[str, list[Gap]]


def generate(config: GenerateConfig, languages: Sequence[str], inputs: GenerateInputs, out: Path) -> Manifest:
    """Runs what is not yet done under `out` and returns the manifest. Raises InputError for too long a prompt."""
    settings = config.model_dump(mode="json", exclude={"batch_size", "score_batch_size"}) | {
        "languages": list(languages)
    }
    folder = StageFolder(out, "generate", VERSION, settings, inputs.digests)
    if finished := folder.finished():
        return finished
    scored, completed = model_ids(config.score, languages), model_ids(config.complete, languages)
    for tokenizer in dict.fromkeys(map(inputs.folders.tokenizer, completed)):  # a model's whole folder
        check_prompts(inputs.problems.problems, tokenizer)
    folder.begin()
    asked = _asked_to_infill(config, languages, inputs.folders)
    forms = {model: form for model, form in asked.items() if form}
    # one form serves all of them: where the base's tokenizer has infilling tokens, the trunk's is the same
    held_out = _held_out(config, languages, inputs.documents, next(iter(forms.values()), None))
    models = list(dict.fromkeys([*scored, *completed, *forms]))
    for model in models:
        if (out / model / MODEL_JSON).exists():
            continue
        problems = inputs.problems.problems if model in completed else {}
        own = [name for name in languages if home_language(model) in (None, name)]
        work = _Work(
            model,
            {
                name: _unscored(out, model, name, held_out.texts[name], config.score_batch_size)
                for name in languages
                if model in scored
            },
            {name: _uncompleted(out, model, name, problems[name], config) for name in own if name in problems},
            {
                name: _unfilled(out, model, name, held_out.gaps[name], config.batch_size)
                for name in own
                if model in forms
            },
            forms.get(model),
        )
        write_json(out / model / MODEL_JSON, _run(work, inputs.folders, config, out))
        folder.save_time()
    return folder.finish(
        {
            "models": {model: read_json(out / model / MODEL_JSON) for model in models},
            "held_out_part": config.held_out_part,
            "held_out_tokens": config.held_out_tokens,
            "skipped": dict(inputs.problems.skipped),
            "gaps": {name: len(gaps) for name, gaps in held_out.gaps.items()},
            "not_infilled": {model: NO_SENTINELS for model, form in asked.items() if not form},
        }
    )


def _asked_to_infill(
    config: GenerateConfig, languages: Sequence[str], folders: Folders
) -> dict[str, InfillingFormat | None]:
    """The models that are to fill in, each with its tokenizer's form; none where no file is to be filled in."""
    models = model_ids(config.infill, languages) if config.infilling_documents else []
    tokenizers = {model: folders.tokenizer(model) for model in models}
    forms = {folder: infilling_format(load_tokenizer(folder)) for folder in set(tokenizers.values())}
    return {model: forms[folder] for model, folder in tokenizers.items()}


def _held_out(
    config: GenerateConfig, languages: Sequence[str], documents: Path, form: InfillingFormat | None
) -> _HeldOut:
    """What is scored and, where there is a form, filled in."""
    held_out = _HeldOut({}, {})
    limits = Limits(config.held_out_tokens, config.max_tokens)
    for name in languages:
        texts = in_order(read_texts(documents, name, "held_out"), config)
        scored = texts[: config.held_out_documents]
        if config.held_out_part == "second-half":
            scored = [replace(text, content=second_half(text.content)) for text in scored]
        held_out.texts[name] = scored
        if form:
            held_out.gaps[name] = cut_first(texts, config.infilling_documents, config.seed, form, limits)
    return held_out


def second_half(content: str) -> str:
    """What follows the line that a text's middle is in; all of a text with no such line."""
    return content[content.find("\n", len(content) // 2) + 1 :] or content


def in_order(texts: Sequence[Text], config: GenerateConfig) -> list[Text]:
    """The held-out files, the first of which are scored: in turn from each package, in a seeded order."""
    return in_turn(in_seeded_order(texts, config.seed))


@memory_full_told("lower generate.score_batch_size and generate.batch_size, or generate.held_out_tokens, and run again")
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
        for language, gaps in work.infill.items():
            assert work.form, "only models with infilling tokens have gaps to fill in"
            for filled in _filled(writer, work.model, language, gaps, work.form, config.max_tokens):
                append_record(_infillings(out, work.model, language), filled)
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


def _filled(
    engine: Engine, model: str, language: str, gaps: Sequence[Gap], form: InfillingFormat, max_tokens: int
) -> Iterator[Infilling]:
    """What is written into each gap, greedily up to the line's end, as batches are done.

    Prompt routing reads the text before the gap alone: the last tokens of it (model/sequences.py), nothing of the
    suffix. Oracle routing is told the language.
    """
    requests = [
        Request(
            form.prompt(gap.prefix, gap.suffix),
            ("\n",),
            max_tokens,
            expert=language if is_oracle(model) else None,
            cursor=gap.prefix,
        )
        for gap in gaps
    ]
    for index, output in engine.complete(requests):
        yield Infilling(
            model=model,
            language=language,
            key=gaps[index].key,
            package=gaps[index].package,
            mode="psm",
            expected=gaps[index].middle,
            text=output.text,
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


def _unfilled(out: Path, model: str, language: str, gaps: Sequence[Gap], batch_size: int) -> list[Gap]:
    records = _whole_batches(Infilling, _infillings(out, model, language), len(gaps), batch_size)
    done = {record.key for record in records}
    return [gap for gap in gaps if gap.key not in done]


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


def _infillings(out: Path, model: str, language: str) -> Path:
    return out / model / f"{language}.infill.jsonl"


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """The seed of one sample; the same for every model, so that models are compared in pairs."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{problem}:{sample}".encode()).digest()[:6])
