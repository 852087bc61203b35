"""Whether a model has positions for the prompts of all problems, told before anything is computed.

In: problems and the folder of a model, of which the config and the tokenizer are read. Out: nothing, or a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tokenizer, model_config, open_checkpoint
from codechoir.model.decoding import Vocabulary
from codechoir.model.families import context_length
from codechoir.model.requests import Request
from codechoir.model.sequences import begin
from codechoir.records import Problem


def check_prompts(problems: Mapping[str, Sequence[Problem]], folder: Path) -> None:
    """Raises InputError where a prompt leaves the dense model in `folder` no position for a token of its own."""
    context = context_length(model_config(open_checkpoint(folder).config, folder))
    if context is None:
        return
    vocabulary = Vocabulary(load_tokenizer(folder))
    lengths = [
        (problem, len(begin(Request(problem.prompt, (), 1), vocabulary, None).prompt))  # no model: no route
        for each in problems.values()
        for problem in each
    ]
    too_long = [(problem, length) for problem, length in lengths if length >= context]
    if too_long:
        problem, length = too_long[0]
        raise InputError(
            "the model has no positions for the prompts of all problems",
            seen=f"{problem.language} {problem.name}: {length} tokens with the tokenizer of {folder}; "
            f"{len(too_long)} of {len(lengths)} prompts are too long",
            allowed=f"at most {context - 1} tokens",
            next_step="take a base with more positions, or choose problems by problems.source, problems.limit and "
            "problems.seed",
        )
