"""Where a composed model sends each token of a text, layer by layer, and whom its prompt router would choose.

In: a composed folder and texts. Out: for each text its tokens as pieces of it, the experts that every layer's token
router chose for each, and the prompt router's probabilities by how much of the text it has read; over several texts,
each layer's share of routing by language, and the experts that nothing was sent to. The decisions are taken from the
running model, not computed beside it.

Shapes: L layers with experts, T tokens, K experts a token, E experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.prompt_routers import prefix_lengths
from codechoir.errors import InputError
from codechoir.languages import language_of_path
from codechoir.model.checkpoint import load_tokenizer, separator_id
from codechoir.model.device import compute_device, compute_dtype
from codechoir.model.moe import ExpertBlock, Routing, load_composed

MAX_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class PromptRoute:
    """Each expert's probability, and the weight that it gets: of one expert all, or what the fallback decides."""

    probabilities: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TextRoutes:
    """One text's routes. `pieces` are its tokens' characters: joined, they are the part of it that was read."""

    name: str
    language: str  # by the file's name; "unknown" where that tells nothing
    num_tokens: int  # of the whole text
    pieces: tuple[str, ...]
    chosen_LTK: torch.Tensor  # experts' numbers
    weights_LTK: torch.Tensor  # of each token's experts, 1 together
    prompt: Mapping[int, PromptRoute]  # by tokens read

    def shares(self, num_experts: int) -> torch.Tensor:
        """Each expert's weight for each token in each layer, (L, T, E)."""
        shares = torch.zeros(*self.chosen_LTK.shape[:2], num_experts)
        return shares.scatter_add_(2, self.chosen_LTK, self.weights_LTK)


class RouteReader:
    """A composed model under token routing with its config's top-k, ready to be shown texts."""

    def __init__(self, folder: Path, top_k: int) -> None:
        self._model = load_composed(folder, Routing.TOKEN, top_k, compute_dtype("auto")).to(compute_device())
        self._tokenizer = load_tokenizer(folder)
        self._blocks = [module for module in self._model.modules() if isinstance(module, ExpertBlock)]
        positions = self._model.config.dense_config.to_dict().get("max_position_embeddings")
        self._max_tokens = min(MAX_TOKENS, int(positions) - 1) if positions else MAX_TOKENS

    @torch.no_grad()
    def read(self, name: str, text: str) -> TextRoutes:
        """One text. It is read as a document, after the token that separates them; the long are cut."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = encoded["input_ids"][: self._max_tokens]
        if not ids:
            raise InputError("the text has no tokens", seen=name)
        chosen, weights = [], []

        def take(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            chosen.append(given[1][1:].cpu())
            weights.append(given[2][1:].float().cpu())

        handles = [block.experts.register_forward_pre_hook(take) for block in self._blocks]
        try:
            tokens = torch.tensor([[separator_id(self._tokenizer), *ids]], device=compute_device())
            self._model(input_ids=tokens, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        language = language_of_path(name)
        return TextRoutes(
            name,
            language.id if language else "unknown",
            len(encoded["input_ids"]),
            _pieces(text, encoded["offset_mapping"][: len(ids)]),
            torch.stack(chosen),
            torch.stack(weights),
            self._prompt(ids),
        )

    def _prompt(self, ids: Sequence[int]) -> dict[int, PromptRoute]:
        router = self._model.prompt_router
        longest = min(len(ids), router.prefix_tokens)
        lengths = prefix_lengths(longest)
        probabilities_NE = router.probabilities([torch.tensor(ids[:length]) for length in lengths])
        told = zip(lengths, probabilities_NE, router.decide(probabilities_NE), strict=True)
        return {length: PromptRoute(_rounded(row), _rounded(weights)) for length, row, weights in told}


def route_in_words(weights: Iterable[float], experts: Sequence[str]) -> str:
    """The experts that have weight, the largest first, with their shares where they are several."""
    parts = sorted(((weight, name) for weight, name in zip(weights, experts, strict=True) if weight), reverse=True)
    return parts[0][1] if len(parts) == 1 else ", ".join(f"{name} {weight:.0%}" for weight, name in parts)


def _rounded(row_E: torch.Tensor) -> tuple[float, ...]:
    return tuple(round(float(share), 4) for share in row_E)


def routing_shares(texts: Sequence[TextRoutes], num_experts: int) -> dict[str, list[list[float]]]:
    """Each language's share of routing: language -> layer -> expert; a row sums to 1. Tokens count alike."""
    shares = {}
    for language in dict.fromkeys(text.language for text in texts):
        shares_LTE = torch.cat([text.shares(num_experts) for text in texts if text.language == language], dim=1)
        shares[language] = [[round(float(share), 4) for share in row] for row in shares_LTE.mean(dim=1)]
    return shares


def dead_experts(texts: Sequence[TextRoutes], num_experts: int) -> list[list[int]]:
    """For each layer the experts that none of the texts' tokens was sent to."""
    sent_LE = sum(text.shares(num_experts).count_nonzero(dim=1) for text in texts)
    assert isinstance(sent_LE, torch.Tensor), "there are texts"
    return [[expert for expert, count in enumerate(row) if not count] for row in sent_LE.tolist()]


def read_text(path: Path) -> str:
    """A text file, as it is. Raises InputError where it is missing or not UTF-8."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise InputError("no such file", seen=path) from None
    except UnicodeDecodeError as error:
        raise InputError("the text is not UTF-8", seen=f"{path}: {error}") from None


def _pieces(text: str, offsets: Sequence[Any]) -> tuple[str, ...]:
    """Each token's characters; of a character in several tokens, the first has it. What no token covers goes before."""
    ends = [0]
    for _, end in offsets:
        ends.append(max(ends[-1], int(end)))
    return tuple(text[start:end] for start, end in pairwise(ends))
