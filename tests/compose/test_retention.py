import numpy as np
import pytest
import torch

from codechoir.compose.retention import NamedRouters, retention

WIDTH = 5
EMBEDDED = torch.randn(2, 50, WIDTH, generator=torch.Generator().manual_seed(0))  # layer, token id, state


def states(language, tokens_NT, use):
    """Each language's states are its tokens' rows, turned over for one of them."""
    for layer, table in enumerate(EMBEDDED):
        use(layer, table[tokens_NT.flatten()] * (-1 if language == "java" else 1))


def routers(experts, seed):
    generator = torch.Generator().manual_seed(seed)
    return NamedRouters(experts, [torch.randn(len(experts), WIDTH, generator=generator) for _ in EMBEDDED])


def test_accuracy_before_and_after_and_agreement_are_counted_by_expert_name():
    before, after = routers(("python", "java", "cpp"), 1), routers(("java", "python", "rust"), 2)
    generator = torch.Generator().manual_seed(3)
    tokens = {name: torch.randint(50, (4, 9), generator=generator) for name in ("python", "java", "cpp", "rust")}
    found = retention(states, tokens, before, after)
    assert set(found) == {"python", "java"}  # what both have
    for name, figures in found.items():
        assert figures["tokens"] == 36
        x = EMBEDDED.numpy()[:, tokens[name].numpy().ravel()] * (-1 if name == "java" else 1)
        chosen = [
            np.array(given.experts)[np.einsum("lnd,led->lne", x, np.stack(given.weights)).argmax(axis=-1)]
            for given in (before, after)
        ]
        for kind, share in (
            ("accuracy_before", chosen[0] == name),
            ("accuracy_after", chosen[1] == name),
            ("agreement", chosen[0] == chosen[1]),
        ):
            assert figures[f"{kind}_by_layer"] == pytest.approx(share.mean(axis=1), abs=1e-4)
            assert figures[kind] == pytest.approx(share.mean(), abs=1e-4)


def test_what_is_zeros_is_not_fitted():
    assert routers(("python",), 0).is_fitted()
    assert not NamedRouters(("python",), [torch.zeros(1, WIDTH)]).is_fitted()
    one = torch.zeros(2, WIDTH)
    one[1, 3] = -1
    some = NamedRouters(("python", "java"), [torch.zeros(2, WIDTH), one])
    assert [some.knows(name) for name in ("python", "java", "cpp")] == [False, True, False]
