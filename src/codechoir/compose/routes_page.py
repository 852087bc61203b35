"""The routes of texts as one HTML page: every token in the colour of the expert that most of its layers chose.

In: routes. Out: a page that needs no other file and runs no script. Texts are hostile: all of them is escaped, and
characters that would be invisible or turn the order of others are shown by their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import torch

from codechoir.compose.routes import TextRoutes, dead_experts, route_in_words, routing_shares

# Controls but for tab and line feed, what sets the order of writing, what has no width, and lone surrogates.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1e; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ddd; border-radius: 4px; padding: .8rem; }
pre, td, th { font: 13px/1.55 ui-monospace, monospace; }
td, th { padding: .1rem .6rem; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
.key span { padding: .1rem .5rem; margin-right: .4rem; border-radius: 3px; }
"""


def routes_page(title: str, experts: Sequence[str], layers: Sequence[int], texts: Sequence[TextRoutes]) -> str:
    """The whole page."""
    key = "".join(
        f'<span style="background:{_colour(number, 0.55)}">{_shown(name)}</span>' for number, name in enumerate(experts)
    )
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Routes in {_shown(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Routes in {_shown(title)}</h1>\n"
        "<p>A token has the colour of the expert with the largest weight over its layers, the stronger the larger that "
        "weight; point at it to see each layer's choice.</p>\n"
        f'<p class="key">{key}</p>\n'
    )
    parts = [_text(text, experts, layers) for text in texts]
    return head + _shares(experts, layers, texts) + "".join(parts) + "</body></html>\n"


def _shares(experts: Sequence[str], layers: Sequence[int], texts: Sequence[TextRoutes]) -> str:
    """A table of each layer's shares by language, dead experts named."""
    dead = dead_experts(texts, len(experts))
    shares = routing_shares(texts, len(experts))
    header = "".join(f"<th>{_shown(name)}</th>" for name in experts)
    rows = []
    for language, by_layer in shares.items():
        for position, row in enumerate(by_layer):
            cells = "".join(
                f'<td style="background:{_colour(number, 0.6 * share)}">{share:.1%}</td>'
                for number, share in enumerate(row)
            )
            idle = ", ".join(experts[number] for number in dead[position])
            rows.append(
                f"<tr><td>{_shown(language)}</td><td>{layers[position]}</td>{cells}<td>{_shown(idle)}</td></tr>\n"
            )
    return (
        "<h2>Share of routing by language and layer</h2>\n"
        f"<table><tr><th>language</th><th>layer</th>{header}<th>chosen by no token</th></tr>\n{''.join(rows)}</table>\n"
    )


def _text(text: TextRoutes, experts: Sequence[str], layers: Sequence[int]) -> str:
    means_TE = text.shares(len(experts)).mean(dim=0)
    spans = [
        f'<span style="background:{_colour(number, 0.15 + 0.6 * share)}" '
        f'title="{_shown(_route(text, place, experts, layers))}">{_shown(piece)}</span>'
        for place, (piece, share, number) in enumerate(zip(text.pieces, *_largest(means_TE), strict=True))
    ]
    read = len(text.pieces)
    cut = f" (the first {read:,} of {text.num_tokens:,} tokens)" if read < text.num_tokens else ""
    header = "".join(f"<th>{_shown(name)}</th>" for name in experts)
    rows = "".join(
        f"<tr><td>{length:,}</td>{''.join(f'<td>{share:.1%}</td>' for share in route.probabilities)}"
        f"<td>{_shown(route_in_words(route.weights, experts))}</td></tr>\n"
        for length, route in text.prompt.items()
    )
    return (
        f"<h2>{_shown(text.name)}: {_shown(text.language)}{cut}</h2>\n"
        f"<table><tr><th>prompt router after tokens</th>{header}<th>route</th></tr>\n{rows}</table>\n"
        f"<pre>{''.join(spans)}</pre>\n"
    )


def _largest(means_TE: torch.Tensor) -> tuple[list[float], list[int]]:
    values, places = means_TE.max(dim=-1)
    return values.tolist(), places.tolist()


def _route(text: TextRoutes, place: int, experts: Sequence[str], layers: Sequence[int]) -> str:
    """A token's route in words, a line a layer."""
    lines = []
    for layer, chosen, weights in zip(layers, text.chosen_LTK[:, place], text.weights_LTK[:, place], strict=True):
        pairs = zip(chosen.tolist(), weights.tolist(), strict=True)
        lines.append(f"layer {layer}: " + ", ".join(f"{experts[number]} {weight:.0%}" for number, weight in pairs))
    return "\n".join(lines)


def _colour(number: int, strength: float) -> str:
    """An expert's colour: hues by the golden angle, so that any few are far apart."""
    return f"hsl({(210 + 137.5 * number) % 360:.0f} 75% 50% / {min(strength, 1):.2f})"


def _shown(text: str) -> str:
    return escape(_UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text), quote=True)
