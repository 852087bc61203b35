"""A trial of the models' stages: a few steps of training, scoring and completing on the recipe's own base, timed.

Goes in: the recipe, and texts by language. Comes out: what each kind of step took, and the sizes that needs are
computed from. The steps are the stages' own code, at the recipe's batch sizes and lengths.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codechoir.artifacts import StageFolder
from codechoir.compose.config import TuneConfig
from codechoir.documents import Text
from codechoir.errors import InputError, UserError
from codechoir.generate.config import GenerateConfig
from codechoir.model.config import AnySource, HubBase
from codechoir.planning.memory import free_memory, peak_memory
from codechoir.recipe import Recipe, check_base
from codechoir.records import Record
from codechoir.train.config import TrainConfig, Way

_TRAIN_SECONDS = 4.0  # what the timed steps of training are to take together
_PASSES = 2  # forward passes in a step on trial; longer steps take as much longer
_SHORT = 64
_MAX_STEPS = 20
_SCORED_TEXTS = 2
_TOKENIZED_TEXTS = 20  # a language
_NEW_TOKENS = 6
_ROUTER_DOCUMENTS = 20  # a language
_NO_TEXT = "def add(left, right):\n    return left + right\n\n\n" * 10
_GIB = 2**30
_NEVER = 1e9

Texts = Mapping[str, Sequence[str]]  # by Language.id


class TuneTrial(Record):
    """What a step of tuning took: seconds, and the peaks of memory by then, in bytes."""

    step_seconds: float
    memory: int
    device_memory: int


class ModelTrial(Record):
    """What the steps took. Memory and disk are bytes, times are seconds."""

    device: str
    number_bytes: int  # what a number takes in the models that are asked
    parameters: int
    feed_forward: int  # how many of them are in feed-forward modules
    vocabulary: int
    first_memory: int  # peak before a model was loaded
    memory: int  # peak of training
    device_memory: int  # the same of the device's own memory; 0 on a CPU
    folder_bytes: int  # of a trained model
    branch_bytes: int  # of what an expert or the universal model leaves: less where it is an adapter
    trained_parameters: int  # at most, of trunk and branches
    num_steps: int  # of training, timed
    step_seconds: float  # one optimiser step of an expert
    trunk_step_seconds: float  # the same of the trunk
    branch_seconds: float  # loading a model and writing it, once a branch
    tokenize_rate: float  # tokens of training a second, as documents become them
    load_seconds: float
    cache_bytes: int  # of a token's keys and values
    score_rate: float  # tokens a second
    complete_seconds: float  # one more token for each prompt of a batch
    prompt_tokens: dict[str, int]  # by language: of all its problems' prompts, padded as they are batched
    moment_bytes: int  # of one language's moments, which are kept with a composed model
    router_seconds: float  # fitting the prompt router, for one document a language; 0 where there was no text
    tune: TuneTrial | str | None = None  # or why it was not tried; None where the recipe does not tune


def try_models(recipe: Recipe, cache: Path, scratch: Path, texts: Texts, prompts: Texts) -> ModelTrial:
    """Tries the recipe's base in this process. Raises UserError where it is not to be had, or too large."""
    from codechoir.model.device import memory_full_told, peak_device_memory

    base = _base(recipe.base, cache)
    check_base(recipe, base)
    sizes, first_memory = _sizes(base), peak_memory()
    _check_it_fits(recipe.train, sizes, first_memory)
    tried = _Tried(base, recipe.train, sizes.vocabulary, _is_compiled(recipe, sizes))
    trunk = expert = _try_branch(tried, recipe.train.branches_trainable, scratch / "expert")
    if recipe.train.trainable != recipe.train.branches_trainable:
        trunk = _try_branch(tried, recipe.train.trainable, scratch / "trunk")
    memory, device_memory = peak_memory(), peak_device_memory()
    tuned = _try_tuning(recipe, base, sizes, scratch)
    with memory_full_told("lower generate.score_batch_size and generate.batch_size"):
        asked = _ask(base, recipe.generate, texts, prompts)
    return ModelTrial(
        parameters=sizes.parameters,
        feed_forward=sizes.feed_forward,
        vocabulary=sizes.vocabulary,
        first_memory=first_memory,
        memory=memory,
        device_memory=device_memory,
        folder_bytes=trunk.folder_bytes,
        branch_bytes=expert.folder_bytes,
        trained_parameters=max(expert.trained, trunk.trained),
        num_steps=expert.num_steps,
        step_seconds=expert.step_seconds,
        trunk_step_seconds=trunk.step_seconds,
        branch_seconds=expert.other_seconds,
        tokenize_rate=_tokenize_rate(base, recipe.train, texts),
        moment_bytes=_moment_bytes(base, recipe.compose.layers),
        router_seconds=_router_seconds(recipe, base, texts, sizes.vocabulary),
        tune=tuned,
        **asked,
    )


def _base(source: AnySource, cache: Path) -> Path:
    from codechoir.model.sources import prepare

    try:
        return prepare(source, cache, hub_offline=True).folder
    except InputError:
        if isinstance(source, HubBase):
            raise InputError(
                "the base is not on this machine yet, and is not fetched only to plan",
                seen=f"{source.id}, revision {source.revision}",
                next_step=f"hf download {source.id}",
            ) from None
        raise


@dataclass(frozen=True, slots=True)
class _Sizes:
    """A base model's."""

    parameters: int
    feed_forward: int
    vocabulary: int


def _sizes(base: Path) -> _Sizes:
    from codechoir.model.checkpoint import open_checkpoint
    from codechoir.model.families import family_of

    checkpoint = open_checkpoint(base)
    family = family_of(checkpoint.config, base)
    sizes = {name: math.prod(shape) for name, shape in checkpoint.shapes().items()}
    feed_forward = sum(size for name, size in sizes.items() if family.is_feed_forward(name))
    return _Sizes(sum(sizes.values()), feed_forward, int(checkpoint.config["vocab_size"]))


def _moment_bytes(base: Path, layers: str) -> int:
    from codechoir.compose.moments import moment_bytes
    from codechoir.compose.plan import chosen_layers
    from codechoir.model.checkpoint import full_config, open_checkpoint
    from codechoir.model.families import decoder_of

    decoder = decoder_of(full_config(open_checkpoint(base)), base)
    return moment_bytes(len(chosen_layers(layers, decoder.num_layers)), decoder.width)


def _check_it_fits(config: TrainConfig, sizes: _Sizes, first_memory: int) -> None:
    """Raises InputError where training would take more memory than is free: a trial would only end in a kill."""
    from codechoir.model.device import compute_device, compute_dtype

    number = compute_dtype(config.precision).itemsize
    known = {"all": sizes.parameters, "feed-forward": sizes.feed_forward}  # of the others, few
    trained = max(known.get(way, 0) for way in (config.trainable, config.branches_trainable))
    needed = first_memory + sizes.parameters * number + trained * trained_bytes(number)
    if compute_device().type == "cpu" and needed > (free := free_memory()):
        raise InputError(
            "the base is too large to be trained on this machine",
            seen=f"{needed / _GIB:.1f} GiB at least, of {free / _GIB:.1f} free",
            next_step="take a smaller base, train fewer weights, or use a machine with more memory",
        )


def tuned_bytes(recipe: Recipe, config: TuneConfig, parameters: int, feed_forward: int, number_bytes: int) -> int:
    """What the composed model takes in memory, with what tuning holds beside its weights."""
    experts = (len(recipe.languages) + recipe.compose.generalist) * feed_forward
    held = number_bytes * (parameters - feed_forward + experts)
    if config.moves_experts:
        held += trained_bytes(number_bytes) * experts
    if config.own_rate is not None:  # the part in common, and float32 weights are no longer their own masters
        held += (4 + trained_bytes(4)) * feed_forward + (4 * experts if number_bytes == 4 else 0)
    return held


def _try_tuning(recipe: Recipe, base: Path, sizes: _Sizes, scratch: Path) -> TuneTrial | str | None:
    from codechoir.compose.tuning.trial import step_seconds
    from codechoir.model.device import compute_device, compute_dtype, peak_device_memory

    if (config := recipe.tune) is None:
        return None
    number = compute_dtype(config.precision).itemsize
    needed = tuned_bytes(recipe, config, sizes.parameters, sizes.feed_forward, number)
    if compute_device().type == "cpu" and needed > (free := free_memory()):
        return f"{needed / _GIB:.1f} GiB of memory at least, of {free / _GIB:.1f} free"
    try:
        seconds = step_seconds(config, recipe.compose, recipe.languages, base, scratch)
    except UserError as error:
        return error.brief()
    finally:
        gc.collect()  # a model of transformers holds itself
    return TuneTrial(step_seconds=seconds, memory=peak_memory(), device_memory=peak_device_memory())


def trained_bytes(number_bytes: int) -> int:
    """What a parameter that trains takes beside itself: gradient, two moments and, of one not in float32, a copy so."""
    return number_bytes + 8 + (4 if number_bytes < 4 else 0)


@dataclass(frozen=True, slots=True)
class _Branch:
    """What a short branch of training took."""

    num_steps: int
    step_seconds: float
    other_seconds: float
    folder_bytes: int
    trained: int  # parameters


@dataclass(frozen=True, slots=True)
class _Tried:
    """What is trained for a trial."""

    base: Path
    config: TrainConfig
    vocabulary: int
    compiled: bool


def _is_compiled(recipe: Recipe, sizes: _Sizes) -> bool:
    from codechoir.model.compilation import pays_to_compile
    from codechoir.train.stage import tokens_read

    return pays_to_compile(sizes.parameters, tokens_read(recipe.train, len(recipe.languages), recipe.left_for_tuning))


def _try_branch(tried: _Tried, way: Way, scratch: Path) -> _Branch:
    """A branch that pays for what is done once; then one of one step or some.

    What a step's further passes add, beyond those that are tried, is told from steps of one pass.
    """
    config = tried.config
    passes = -(-config.sequences_per_step // config.sequences_per_forward)
    timed = config.model_copy(
        update={"sequences_per_step": min(config.sequences_per_step, _PASSES * config.sequences_per_forward)}
    )
    # Layers are compiled for one shape; where they are not, short sequences do.
    short = {} if tried.compiled else {"sequence_length": min(_SHORT, config.sequence_length)}
    _train(tried, timed.model_copy(update=short), 1, way, scratch / "first")
    branch = _train(tried, timed, 1, way, scratch / "one")
    num_steps = max(1, min(_MAX_STEPS, int(_TRAIN_SECONDS / max(branch.step_seconds, 1e-3))))
    if num_steps > 1:
        branch = _train(tried, timed, num_steps, way, scratch / "some")
    if passes <= _PASSES:
        return branch
    one = timed.model_copy(update={"sequences_per_step": config.sequences_per_forward})
    pass_seconds = branch.step_seconds - _train(tried, one, num_steps, way, scratch / "pass").step_seconds
    pass_seconds = min(max(pass_seconds, 0.0), branch.step_seconds / _PASSES)
    return replace(branch, step_seconds=branch.step_seconds + (passes - _PASSES) * pass_seconds)


def _train(tried: _Tried, config: TrainConfig, num_steps: int, way: Way, folder: Path) -> _Branch:
    """Trains on random tokens, two documents a sequence."""
    from codechoir.train.branch import Branch, train_branch
    from codechoir.train.sequences import ArraySequences

    settings = config.model_copy(update={"checkpoint_seconds": _NEVER, "patience": 0, "bad_step": "skip", "watch": ()})
    num_sequences = num_steps * config.sequences_per_step
    sequences = np.random.default_rng(0).integers(0, tried.vocabulary, (num_sequences, config.sequence_length))
    sequences[:, :: -(-config.sequence_length // 2)] = 0
    stage = StageFolder(folder, "trial", 1, {}, {})
    stage.begin()
    began = time.monotonic()
    branch = Branch("on trial", tried.base, ArraySequences(sequences, 0), way, compiled=tried.compiled)
    facts = train_branch(branch, settings, stage)
    seconds = time.monotonic() - began
    steps_seconds = sequences.size / facts["tokens_per_second"]
    num_bytes = sum(path.stat().st_size for path in folder.iterdir())
    other_seconds, trained = max(seconds - steps_seconds, 0.0), facts["trainable_parameters"]
    return _Branch(num_steps, steps_seconds / num_steps, other_seconds, num_bytes, trained)


def _tokenize_rate(base: Path, config: TrainConfig, texts: Texts) -> float:
    from codechoir.model.infilling_tokens import Sentinels
    from codechoir.train.shards import writer_of

    # A base may get its sentinels only when it is trained; which tokens these are takes no time.
    writer = replace(writer_of(base, config), sentinels=Sentinels(0, 0, 0, 0))
    some = [text for each in texts.values() for text in each[:_TOKENIZED_TEXTS]] or [_NO_TEXT]
    writer.write(some[0], "")  # the first is slower
    began = time.monotonic()
    written = [document for number, text in enumerate(some) for document in writer.write(text, str(number))]
    return sum(len(document.tokens) for document in written) / (time.monotonic() - began)


def _ask(base: Path, config: GenerateConfig, texts: Texts, prompts: Texts) -> dict[str, Any]:
    """The fields of a trial that scoring and completing give."""
    from codechoir.model.checkpoint import load_model, load_tokenizer
    from codechoir.model.device import compute_device, compute_dtype
    from codechoir.model.engine import Engine, Request
    from codechoir.model.growing_cache import token_bytes

    dtype, device = compute_dtype(config.precision), compute_device()
    began = time.monotonic()
    model, tokenizer = load_model(base, dtype).to(device), load_tokenizer(base)
    load_seconds = time.monotonic() - began
    text = "".join(text for some in texts.values() for text in some[:20]) or _NO_TEXT
    text = text[: 8 * config.held_out_tokens]
    scorer = writer = Engine(model, tokenizer, config.score_batch_size)
    for num_texts in (1, _SCORED_TEXTS * config.score_batch_size):  # the first is slower
        scorer = Engine(model, tokenizer, config.score_batch_size)
        list(scorer.log_likelihoods([text] * num_texts, config.held_out_tokens))
    num_steps = 1
    for num_tokens in (1, _NEW_TOKENS) if prompts else ():
        writer = Engine(model, tokenizer, config.batch_size)
        requests = [Request("def f(", (), num_tokens)] * config.batch_size
        num_steps = max(output.num_tokens for _, output in writer.complete(requests)) + 1
    return {
        "device": device.type,
        "number_bytes": dtype.itemsize,
        "load_seconds": load_seconds,
        "cache_bytes": token_bytes(model),
        "score_rate": scorer.num_tokens / scorer.seconds,
        "complete_seconds": writer.seconds / num_steps if prompts else 0.0,
        "prompt_tokens": {name: _padded(tokenizer, some, config) for name, some in prompts.items()},
    }


def _padded(tokenizer: Any, prompts: Iterable[str], config: GenerateConfig) -> int:
    """The tokens that all batches of one model's completions of a language begin with."""
    lengths = [len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) + 1 for prompt in prompts]
    lengths = sorted(lengths * config.num_samples, reverse=True)
    batches = [lengths[start : start + config.batch_size] for start in range(0, len(lengths), config.batch_size)]
    return sum(batch[0] * len(batch) for batch in batches)


def _router_seconds(recipe: Recipe, base: Path, texts: Texts, vocabulary: int) -> float:
    from codechoir.compose.prompt_routers import fit_prompt_router
    from codechoir.model.checkpoint import load_tokenizer

    some = {
        name: [Text(str(number), "", text) for number, text in enumerate(texts.get(name, ())[:_ROUTER_DOCUMENTS])]
        for name in recipe.languages
    }
    fewest = min(map(len, some.values()))
    if fewest < 5:
        return 0.0
    began = time.monotonic()
    fit_prompt_router(some, load_tokenizer(base), vocabulary, recipe.compose)
    return (time.monotonic() - began) / (sum(map(len, some.values())) / len(some))
