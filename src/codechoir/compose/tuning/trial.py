"""A trial of tuning: a base composed with itself, once a language, and a step of the stage's own loop, timed.

In: a base and the settings. Out: what a step took. Routers are random, so that the experts share the tokens; so are the
tokens, two documents a sequence.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import torch

from codechoir.artifacts import StageFolder
from codechoir.compose.config import ComposeConfig, TuneConfig
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.tuning.loop import Loop, Subject
from codechoir.compose.tuning.stage import open_subject
from codechoir.compose.tuning.texts import Sequences, TuneTexts
from codechoir.compose.tuning.watch import Watch
from codechoir.compose.tuning.writing import tuned_slices
from codechoir.model.device import memory_full_told
from codechoir.model.moe import open_composed

_PASSES = 2  # forward passes in the step on trial; longer steps take as much longer
_SHORT = 64  # tokens: of the step that pays for what is done once, and of what validates
_NEVER = 1e9


@memory_full_told("shorten tune.sequence_length, or tune the routers alone")
def step_seconds(
    config: TuneConfig, composing: ComposeConfig, languages: Sequence[str], base: Path, scratch: Path
) -> float:
    """What one of the recipe's steps takes here. Raises UserError, MemoryFullError among them."""
    unproven = composing.model_copy(update={"prove": False})
    compose(unproven, ComposeInputs(base, dict.fromkeys(languages, base), None, {}), scratch / "composed")
    composed = open_composed(scratch / "composed")
    top_k = min(config.top_k or composing.top_k, len(composed.experts))
    subject = open_subject(composed, tuned_slices(composed, config), top_k, config)
    generator = torch.Generator().manual_seed(0)
    for block in Watch(subject.model).blocks:
        weight = block.router.weight.data
        weight.copy_(torch.randn(weight.shape, generator=generator))
    tried = min(_PASSES * config.sequences_per_forward, config.sequences_per_language)
    short = {"sequences_per_language": 1, "sequence_length": min(_SHORT, config.sequence_length)}
    if subject.compiled:  # for one shape
        short = {"sequences_per_language": min(config.sequences_per_forward, config.sequences_per_language)}
    seconds = 0.0
    for changes in (short, {"sequences_per_language": tried}):
        timed = config.model_copy(update={"steps": 1, "checkpoint_seconds": _NEVER} | changes)
        seconds = _timed(subject, timed, languages, scratch / "tuned")
    return seconds * config.sequences_per_language / tried


def _timed(subject: Subject, config: TuneConfig, languages: Sequence[str], folder: Path) -> float:
    """The seconds of one step, as the loop measures them."""
    gc.collect()  # the state of the optimiser before is large
    stage = StageFolder(folder, "trial", 1, {}, {})
    stage.begin()
    vocabulary = subject.model.get_input_embeddings().num_embeddings
    generator = torch.Generator().manual_seed(0)

    def sequences(count: int, length: int) -> Sequences:
        positions_T = torch.arange(length) % -(-length // 2)
        tokens_NT = torch.randint(vocabulary, (count, length), generator=generator)
        return Sequences(tokens_NT, positions_T.expand(count, -1))

    texts = TuneTexts(
        {name: sequences(1, min(_SHORT, config.sequence_length)) for name in languages},
        {name: sequences(config.sequences_per_language, config.sequence_length) for name in languages},
    )
    return Loop(subject, texts, config, stage).run().seconds
