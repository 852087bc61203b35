"""The composed model's speed beside its dense base's: `python -m bench.compose.speed SETTINGS OUT`, one process.

Settings: base, composed (a folder of Mixtral's form), documents, dtypes, batches, context, rounds, seconds. Out: for
each dtype, batch and task the seconds of every contestant by round. Tasks: a forward pass over `context` tokens as
generation begins with it (no cache, the last position's logits), and a decoding step after as many tokens in the cache.

The token routers are random, so that tokens spread over all experts, as the shares tell: more than of fitted routers,
and so the worst case. Weights of contestants of the composed model are shared; dense stands twice, to show the noise.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.compose.timing import DENSE, interleave
from codechoir.documents import read_texts
from codechoir.model.checkpoint import load_model, load_tokenizer
from codechoir.model.device import compute_dtype
from codechoir.model.moe import ExpertBlock, Routing, load_composed
from codechoir.model.prompt_router import BUCKETS, PromptRouter

DENSE_AGAIN = "dense, again"
TOKEN, PROMPT, PROMPT_MIXED = "token, top-1", "prompt, one language", "prompt, mixed languages"
MIXTRAL = "stock Mixtral, top-1"
STEP_ROUNDS = 8  # decoding steps for each forward pass


def contestants(base: Path, composed: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The models by their names on the page, with the same random routers."""
    from transformers import AutoModelForCausalLM

    token = load_composed(composed, Routing.TOKEN, 1, dtype)
    mixtral = AutoModelForCausalLM.from_pretrained(composed, dtype=dtype, num_experts_per_tok=1).eval()
    generator = torch.Generator().manual_seed(0)
    blocks = [module for module in token.modules() if isinstance(module, ExpertBlock)]
    gates = [module for name, module in mixtral.named_modules() if name.endswith("mlp.gate")]
    with torch.no_grad():
        for block, gate in zip(blocks, gates, strict=True):
            block.router.weight.normal_(generator=generator)
            gate.weight.copy_(block.router.weight)
    one, mixed = _same_weights(token), _same_weights(token)
    router = token.prompt_router
    for model, weight_FE in (
        (one, torch.zeros(BUCKETS, len(token.experts))),
        (mixed, torch.randn(BUCKETS, len(token.experts), generator=generator)),
    ):
        model.set_routing(Routing.PROMPT)
        model.prompt_router = PromptRouter(weight_FE, router.words_V, 1.0, router.prefix_tokens)
    dense = load_model(base, dtype)
    return {DENSE: dense, DENSE_AGAIN: dense, TOKEN: token, PROMPT: one, PROMPT_MIXED: mixed, MIXTRAL: mixtral}


def _same_weights(model: Any) -> Any:
    """Another model with a route of its own over the same parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def text_tokens(base: Path, documents: Path, batch: int, length: int) -> torch.Tensor:
    """Sequences of text (batch, length), the languages in turn."""
    tokenizer = load_tokenizer(base)
    names = sorted(folder.name for folder in documents.iterdir())
    rows = []
    for number in range(batch):
        texts = read_texts(documents, names[number % len(names)], "train")[number // len(names) :: 16]
        ids = tokenizer("\n".join(text.content for text in texts), verbose=False)["input_ids"]
        rows.append(torch.tensor(ids[:length]))
    return torch.stack(rows)


@torch.no_grad()
def measure_dtype(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Both tasks at all batch sizes in one number format."""
    base, documents, length = Path(settings["base"]), Path(settings["documents"]), settings["context"]
    models = contestants(base, Path(settings["composed"]), getattr(torch, name))
    found: dict[str, Any] = {"mixtral_backend": models[MIXTRAL].config._experts_implementation}
    for batch in settings["batches"]:
        ids_BT = text_tokens(base, documents, batch, length)
        budget = settings["rounds"], settings["seconds"]
        forward = interleave({key: _forward(model, ids_BT) for key, model in models.items()}, *budget)
        caches = {key: model(input_ids=ids_BT, use_cache=True, logits_to_keep=1) for key, model in models.items()}
        caches = {key: output.past_key_values for key, output in caches.items()}
        steps = {key: _step(model, ids_BT[:, :1], caches[key]) for key, model in models.items()}
        decode = interleave(steps, budget[0] * STEP_ROUNDS, budget[1], lambda key, caches=caches: caches[key].crop(-1))
        found[str(batch)] = {"forward": forward, "decode": decode, "shares": _shares(models[TOKEN])}
        sys.stderr.write(f"{name}, batch {batch}: {len(forward[DENSE])} forward, {len(decode[DENSE])} decode rounds\n")
    return found


def _forward(model: Any, ids_BT: torch.Tensor) -> Callable[[], Any]:
    return lambda: model(input_ids=ids_BT, use_cache=False, logits_to_keep=1)


def _step(model: Any, ids_B1: torch.Tensor, cache: Any) -> Callable[[], Any]:
    return lambda: model(input_ids=ids_B1, past_key_values=cache, use_cache=True)


def _shares(model: Any) -> list[float]:
    """Each expert's share of all routing decisions."""
    counts_E = model.route.counts_BE.sum(dim=0)
    return [round(float(share), 3) for share in counts_E / counts_E.sum()]


def number_formats(names: Sequence[str]) -> list[str]:
    """Those that this processor computes in; bfloat16 may be emulated, at a tenth of the speed."""
    fast = str(compute_dtype("auto")).removeprefix("torch.")
    return [name for name in names if name in ("float32", fast)]


def main() -> None:
    settings = json.loads(sys.argv[1])
    found = {name: measure_dtype(settings, name) for name in number_formats(settings["dtypes"])}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
