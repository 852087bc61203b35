"""Prompts that are too long for a model; the oracle is the engine, which meets them one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codechoir.errors import InputError
from codechoir.generate.prompts import check_prompts
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.engine import Engine, Request
from codechoir.records import Problem


def problem(prompt: str, name: str = "one", language: str = "python") -> Problem:
    return Problem(name=name, language=language, prompt=prompt, tests="", stop_tokens=())


@pytest.mark.parametrize(
    ("prompt", "fits"),
    [("x" * 2046, True), ("x" * 2047, False), ("x" * 2046 + "\n", True), ("x" * 2047 + "\n", False)],
    ids=["all but one", "all", "all but one, healed", "all, healed"],
)
def test_a_prompt_fits_where_the_engine_takes_it(random_base: Path, prompt: str, fits: bool) -> None:
    engine = Engine(load_model(random_base, torch.float32), load_tokenizer(random_base), 1)
    asked = Request(prompt, (), 1)
    if fits:
        check_prompts({"python": [problem(prompt)]}, random_base)
        assert len(list(engine.complete([asked]))) == 1
    else:
        with pytest.raises(InputError):
            list(engine.complete([asked]))
        with pytest.raises(InputError, match="at most 2047 tokens"):
            check_prompts({"python": [problem(prompt)]}, random_base)


def test_the_first_problem_is_named_and_how_many_there_are(random_base: Path) -> None:
    problems = {
        "python": [problem("x")],
        "java": [
            problem("y", "two", "java"),
            problem("y" * 2100, "three", "java"),
            problem("y" * 2200, "four", "java"),
        ],
    }
    with pytest.raises(InputError) as refused:
        check_prompts(problems, random_base)
    said = refused.value
    assert str(said.seen).startswith(f"java three: 2101 tokens with the tokenizer of {random_base}; 2 of 4 prompts")
    assert "problems.limit" in said.next_step
    check_prompts({}, random_base)
