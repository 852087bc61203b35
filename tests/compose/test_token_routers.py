import numpy as np
import pytest
import torch

from codechoir.compose import token_routers
from codechoir.compose.plan import plan
from codechoir.compose.token_routers import TEMPERATURES, ExpertStates, fit_token_routers
from codechoir.compose.weights import Weights
from codechoir.model.checkpoint import load_model
from codechoir.model.device import compute_device

LANGUAGES = ("python", "java", "cpp")


def token_ids(num_sequences, seed):
    return torch.randint(1, 257, (num_sequences, 24), generator=torch.Generator().manual_seed(seed))


FIT = {name: token_ids(number, number) for number, name in enumerate(LANGUAGES, 2)}
CALIBRATION = {name: token_ids(1 + number, 10 + number) for number, name in enumerate(LANGUAGES)}


@pytest.fixture(scope="module")
def expert_states(trunk, experts):
    return ExpertStates(Weights(plan(trunk, experts)), torch.float32)


@pytest.fixture(scope="module")
def routers(expert_states, compose_config):
    return fit_token_routers(expert_states, LANGUAGES, FIT, CALIBRATION, compose_config)


@pytest.fixture(scope="module")
def states(experts):
    """`states(sequences, layer)`: what a layer's feed-forward module reads, and the labels, as float64.

    Each text goes through its own expert in plain transformers, one sequence at a time.
    """
    models = {name: load_model(folder, torch.float32) for name, folder in experts.items()}

    def collect(sequences, layer):
        rows, labels = [], []
        for label, name in enumerate(LANGUAGES):
            for tokens in sequences[name]:
                seen = []
                module = models[name].model.layers[layer].post_attention_layernorm
                handle = module.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
                with torch.no_grad():
                    models[name](tokens[None])
                handle.remove()
                rows.append(seen[0][0].double().numpy())
                labels += [label] * len(tokens)
        return np.concatenate(rows), np.array(labels)

    return collect


@pytest.mark.parametrize("layer", [0, 1])
def test_a_router_is_the_ridge_solution_over_the_states_that_it_reads(routers, states, compose_config, layer):
    """Least squares over the states and, below them, rows that stand for the penalty."""
    x, labels = states(FIT, layer)
    penalty = compose_config.ridge * np.mean(np.sum(x * x, axis=0))
    rows = np.concatenate([x, np.sqrt(penalty) * np.eye(x.shape[1])])
    targets = np.concatenate([np.eye(3)[labels], np.zeros((x.shape[1], 3))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0].T
    found = routers.weights[layer].numpy() * routers.temperatures[layer]
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("layer", [0, 1])
def test_the_temperature_is_the_likeliest_on_the_calibration_text(routers, states, layer):
    x, labels = states(CALIBRATION, layer)
    scores = x @ (routers.weights[layer].numpy() * routers.temperatures[layer]).T.astype(float)

    def loss(temperature):
        logits = scores / temperature
        return np.sum(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])

    assert routers.temperatures[layer] == min(TEMPERATURES, key=loss)
    assert routers.accuracies[layer] == pytest.approx(np.mean(scores.argmax(axis=1) == labels), abs=1e-3)


def test_how_texts_are_batched_and_ordered_does_not_matter(routers, expert_states, compose_config, monkeypatch):
    monkeypatch.setitem(token_routers._TOKENS_AT_ONCE, compute_device().type, 50)
    turned = {name: tokens.flip(0) for name, tokens in reversed(FIT.items())}
    again = fit_token_routers(expert_states, LANGUAGES, turned, CALIBRATION, compose_config)
    for one, other in zip(routers.weights, again.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_states_that_tell_the_language_are_told_apart(expert_states, compose_config):
    """Each language has six letters of its own, which layer 0 cannot miss."""
    texts = {name: 1 + 6 * number + token_ids(6, number) % 6 for number, name in enumerate(LANGUAGES)}
    fitted = fit_token_routers(
        expert_states,
        LANGUAGES,
        {name: tokens[:4] for name, tokens in texts.items()},
        {name: tokens[4:] for name, tokens in texts.items()},
        compose_config,
    )
    assert fitted.accuracies[0] > 0.95
