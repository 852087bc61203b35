import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from codechoir.compose.moments import (
    MOMENTS_JSON,
    MOMENTS_TENSORS,
    Gathering,
    Moments,
    read_moments,
    solve,
    write_moments,
)
from codechoir.errors import InputError

WIDTH, LAYERS = 6, (1, 3)
LANGUAGES = ("python", "java", "cpp")


def states(seed, num_tokens):
    """(L, N, D), with a mean that differs by seed, so that there is something to tell apart."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(len(LAYERS), num_tokens, WIDTH)) + rng.normal(size=WIDTH)).astype(np.float32)


STATES = {name: states(seed, 20 + 7 * seed) for seed, name in enumerate(LANGUAGES)}


def sums_of(x_LND, parts=3):
    gathering = Gathering()
    for part in np.array_split(x_LND, parts, axis=1):
        for position, x_ND in enumerate(part):
            gathering.add(position, torch.from_numpy(x_ND))
    return gathering.sums()


@pytest.fixture
def moments():
    return Moments(LAYERS, {name: sums_of(x) for name, x in STATES.items()}, (0.5, 0.25), 0.01)


def test_sums_are_those_of_all_states_however_they_come():
    found = sums_of(STATES["java"])
    assert found.num_tokens == 27
    for position, x_ND in enumerate(STATES["java"].astype(float)):
        square = x_ND.T @ x_ND
        np.testing.assert_allclose(found.triangles[position], square[np.triu_indices(WIDTH)], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.totals[position], x_ND.sum(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("experts", [LANGUAGES, ("cpp", "python"), ("java", "generalist", "python")])
def test_routers_are_the_ridge_solutions_over_any_choice_of_languages(moments, experts):
    """Least squares over the states and, below them, rows that stand for the penalty."""
    chosen = {name: moments.languages[name] for name in experts if name in LANGUAGES}
    found = solve(chosen, experts, 0.1)
    for position, weight in enumerate(found):
        x = np.concatenate([STATES[name][position] for name in chosen]).astype(float)
        labels = np.concatenate([[experts.index(name)] * STATES[name].shape[1] for name in chosen])
        penalty = 0.1 * np.mean(np.sum(x * x, axis=0))
        rows = np.concatenate([x, np.sqrt(penalty) * np.eye(WIDTH)])
        targets = np.concatenate([np.eye(len(experts))[labels], np.zeros((WIDTH, len(experts)))])
        expected = np.linalg.lstsq(rows, targets, rcond=None)[0].T
        assert weight.dtype == torch.float32
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)
    if "generalist" in experts:
        assert not any(weight[1].any() for weight in found)


def test_text_of_others_counts_where_its_sums_are_given(moments):
    """What is no expert's pushes the scores down, as a class of its own would."""
    without = solve({name: moments.languages[name] for name in ("python", "java")}, ("python", "java"), 0.1)
    with_cpp = solve(moments.languages, ("python", "java"), 0.1)
    assert not torch.allclose(without[0], with_cpp[0], rtol=1e-2)


def test_they_come_back_as_they_were_written(moments, tmp_path):
    write_moments(tmp_path, moments)
    back = read_moments(tmp_path, WIDTH)
    assert (back.layers, back.temperatures, back.ridge) == (LAYERS, (0.5, 0.25), 0.01)
    assert list(back.languages) == list(LANGUAGES)
    for name, sums in moments.languages.items():
        assert back.languages[name].num_tokens == sums.num_tokens
        for one, other in (
            (sums.triangles, back.languages[name].triangles),
            (sums.totals, back.languages[name].totals),
        ):
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_their_size_is_half_a_square_a_language_and_layer(moments, tmp_path):
    write_moments(tmp_path, moments)
    held = load_file(tmp_path / MOMENTS_TENSORS).values()
    assert sum(tensor.nbytes for tensor in held) == 3 * 2 * 4 * (WIDTH * (WIDTH + 1) // 2 + WIDTH)


def test_a_folder_without_them_has_none(tmp_path):
    assert read_moments(tmp_path, WIDTH) is None


@pytest.mark.parametrize("damage", ["width", "nan", "missing", "version", "temperatures", "not a mapping", "no file"])
def test_damaged_moments_are_named(moments, tmp_path, damage):
    write_moments(tmp_path, moments)
    told = json.loads((tmp_path / MOMENTS_JSON).read_text())
    tensors = load_file(tmp_path / MOMENTS_TENSORS)
    width = WIDTH
    if damage == "width":
        width += 1
    elif damage == "nan":
        tensors["java.3.x"][2] = float("nan")
    elif damage == "missing":
        del tensors["cpp.1.xx"]
    elif damage == "version":
        told["version"] = 7
    elif damage == "temperatures":
        told["temperatures"].pop()
    elif damage == "not a mapping":
        told = []
    save_file(tensors, tmp_path / MOMENTS_TENSORS)
    (tmp_path / MOMENTS_JSON).write_text(json.dumps(told))
    if damage == "no file":
        (tmp_path / MOMENTS_TENSORS).unlink()
    with pytest.raises(InputError, match="moments") as refused:
        read_moments(tmp_path, width)
    assert str(tmp_path) in str(refused.value)
