import math

import numpy as np
import pytest
from safetensors.torch import load_file

from codechoir.compose.similarity import similarities
from codechoir.compose.stage import ComposeInputs, compose
from codechoir.compose.views import view_composed

LANGUAGES = ("python", "java", "cpp")


def cosine(one, other):
    return one @ other / math.sqrt((one @ one) * (other @ other))


@pytest.mark.parametrize("layers", ["all", "1"])
def test_cosines_are_those_of_the_experts_own_folders(trunk, experts, tmp_path, compose_config, layers):
    """Both forms; the oracle reads the experts' folders, layer by layer, as one long vector each."""
    config = compose_config.model_copy(update={"layers": layers, "shared": "base", "prove": False})
    compose(config, ComposeInputs(trunk, experts, None, {}), tmp_path / "out")
    found = similarities(view_composed(tmp_path / "out"))
    assert [each.layer for each in found] == ([0, 1] if layers == "all" else [1])
    for each in found:
        vectors = []
        for name in LANGUAGES:
            tensors = load_file(experts[name] / "model.safetensors")
            own = sorted(key for key in tensors if f".layers.{each.layer}.mlp." in key)
            vectors.append(np.concatenate([tensors[key].double().numpy().ravel() for key in own]))
        mean = np.mean(vectors, axis=0)
        for i, one in enumerate(vectors):
            assert each.spread[i] == pytest.approx(np.linalg.norm(one - mean) / np.linalg.norm(mean), rel=1e-4)
            for j, other in enumerate(vectors):
                assert each.weights[i][j] == pytest.approx(cosine(one, other), abs=2e-5)
                assert each.differences[i][j] == pytest.approx(cosine(one - mean, other - mean), abs=2e-5)
        assert each.differences[0][1] == pytest.approx(-0.5, abs=0.05)  # noise of its own for each expert


def test_small_differences_are_not_lost_in_rounding(trunk, vary, tmp_path, compose_config):
    """A thousandth of the weights, and the third expert goes back on the first's way."""
    scales = {"python": (7, 1e-3), "java": (8, 1e-3), "cpp": (7, -1e-3)}
    experts = {
        name: vary(trunk, tmp_path / name, seed, lambda tensor: ".mlp." in tensor, scale)
        for name, (seed, scale) in scales.items()
    }
    config = compose_config.model_copy(update={"prove": False})
    compose(config, ComposeInputs(trunk, experts, None, {}), tmp_path / "out")
    for each in similarities(view_composed(tmp_path / "out")):
        assert each.weights[0][2] > 0.999
        # python is d, java e, cpp -d: from their mean e/3 these are d - e/3, 2e/3, -d - e/3, with d and e orthogonal
        assert each.differences[0][2] == pytest.approx((-1 + 1 / 9) / (1 + 1 / 9), abs=0.02)
        assert each.differences[0][1] == pytest.approx((-2 / 9) / math.sqrt((1 + 1 / 9) * (4 / 9)), abs=0.02)


def test_experts_that_are_all_the_same_have_no_direction(trunk, experts, tmp_path, compose_config):
    config = compose_config.model_copy(update={"prove": False})
    same = {"python": experts["java"], "java": experts["java"]}
    compose(config, ComposeInputs(trunk, same, None, {}), tmp_path / "out")
    for each in similarities(view_composed(tmp_path / "out")):
        assert each.spread == (0, 0)
        assert each.differences[0][1] is None and each.weights[0][1] == pytest.approx(1)
