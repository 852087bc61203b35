"""What transformers' expert backends change in the logits: `python -m bench.compose.backends SETTINGS OUT`.

Settings: base, composed, documents, length, dtypes. The same text goes through our model class on each backend, with
every token sent to one expert, and with token routing; the eager backend's logits are what the others' are held
against. In token routing a token near the border of two experts may go to the other, and then the logits tell of
another expert.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from bench.compose.speed import number_formats, text_tokens
from codechoir.model.moe import ExpertBlock, Routing, load_composed

BACKENDS = ("eager", "grouped_mm", "batched_mm")
ROUTES = {"fixed": (Routing.FIXED, 1), "token, top-1": (Routing.TOKEN, 1), "token, top-2": (Routing.TOKEN, 2)}


@torch.no_grad()
def differences(settings: dict[str, Any], dtype: str) -> dict[str, dict[str, dict[str, float]]]:
    """Route -> backend -> largest difference of a logit, the largest logit, and the share of equal best tokens."""
    composed = Path(settings["composed"])
    model = load_composed(composed, Routing.TOKEN, 1, getattr(torch, dtype))
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, ExpertBlock):
            module.router.weight.normal_(generator=generator)
    ids_BT = text_tokens(Path(settings["base"]), Path(settings["documents"]), 4, settings["length"])
    found: dict[str, dict[str, dict[str, float]]] = {}
    for route, (routing, top_k) in ROUTES.items():
        for backend in BACKENDS:
            model.set_experts_implementation(backend)
            model.set_routing(routing, top_k)
            model.route.through_backend = routing is Routing.FIXED and backend != "eager"
            if routing is Routing.FIXED:
                model.fix_routes([model.experts[0]])
            logits_BTV = model(input_ids=ids_BT, use_cache=False).logits.float()
            if backend == "eager":
                eager_BTV = logits_BTV
                continue
            found.setdefault(route, {})[backend] = {
                "absolute": float((logits_BTV - eager_BTV).abs().max()),
                "largest": float(eager_BTV.abs().max()),
                "same_best": float((logits_BTV.argmax(-1) == eager_BTV.argmax(-1)).float().mean()),
            }
        model.route.through_backend = False
    return found


def main() -> None:
    settings = json.loads(sys.argv[1])
    found = {dtype: differences(settings, dtype) for dtype in number_formats(settings["dtypes"])}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
