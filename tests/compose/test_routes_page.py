import re
from html.parser import HTMLParser

import torch
from hypothesis import given
from hypothesis import strategies as st

from codechoir.compose.routes import PromptRoute, TextRoutes
from codechoir.compose.routes_page import routes_page

EXPERTS = ("python", "java")
LAYERS = (0, 2)


class Page(HTMLParser):
    """What a browser would make of it: tags, attributes, and the text of each token."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.titles, self.styles, self.tokens = set(), [], [], []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            assert name in {"style", "title", "class", "charset", "content", "http-equiv", "lang"}, name
            if name == "title":
                self.titles.append(value)
                self.tokens.append("")
                self.inside = True
            elif name == "style":
                self.styles.append(value)

    def handle_endtag(self, _):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.tokens[-1] += data


def routes(pieces, name="file.py"):
    num_tokens = len(pieces)
    chosen = torch.arange(2 * num_tokens).reshape(2, num_tokens, 1) % 2
    prompt = {16: PromptRoute((0.9, 0.1), (1.0, 0.0))}
    return TextRoutes(name, "python", num_tokens, tuple(pieces), chosen, torch.ones(2, num_tokens, 1), prompt)


ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span", "table", "tr", "th", "td", "pre"}


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6), st.text(max_size=12))
def test_a_hostile_text_makes_no_markup(pieces, name):
    page = Page(routes_page(name, EXPERTS, LAYERS, [routes(pieces, name)]))
    assert page.tags <= ALLOWED
    assert len(page.tokens) == len(pieces)


def test_known_attacks_stay_text():
    pieces = [
        "<script>alert(1)</script>",
        "\"' onmouseover=x",
        "</pre><img src=//e/x>",
        "&lt;",
        "<!--",
        "]]>",
        "a\tb\n",
    ]
    html = routes_page("</title><script>", EXPERTS, LAYERS, [routes(pieces, "<b>.py")])
    page = Page(html)
    assert page.tokens == pieces
    assert page.tags <= ALLOWED
    assert not re.search(r"(src|href)=\"", html)
    assert "default-src 'none'" in html


def test_what_cannot_be_seen_is_shown():
    pieces = ["a\u202eb", "\x00", "\u200b", "\ufeff", "\r"]
    tokens = Page(routes_page("m", EXPERTS, LAYERS, [routes(pieces)])).tokens
    assert tokens == ["a⟨U+202E⟩b", "⟨U+0000⟩", "⟨U+200B⟩", "⟨U+FEFF⟩", "⟨U+000D⟩"]


def test_colour_and_title_are_the_route():
    chosen = torch.tensor([[[0, 1], [1, 0]], [[0, 1], [1, 0]]])
    weights = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.7, 0.3], [0.8, 0.2]]])
    prompt = {2: PromptRoute((0.25, 0.75), (0.25, 0.75))}
    text = TextRoutes("f.py", "python", 5, ("a", "b"), chosen, weights, prompt)
    html = routes_page("m", EXPERTS, LAYERS, [text])
    page = Page(html)
    assert page.titles == ["layer 0: python 90%, java 10%\nlayer 2: python 70%, java 30%",
                           "layer 0: java 60%, python 40%\nlayer 2: java 80%, python 20%"]  # fmt: skip
    first, second = re.findall(r'<span style="background:hsl\((\d+) 75% 50% / ([\d.]+)\)" title', html)
    key = re.findall(r'<span style="background:hsl\((\d+) 75% 50% / 0.55\)">(\w+)', html)
    assert {name: hue for hue, name in key} == {"python": first[0], "java": second[0]}
    assert first[1] == "0.63" and second[1] == "0.57"  # 0.15 and 0.6 of the mean weights 0.8 and 0.7
    assert "the first 2 of 5 tokens" in html
    assert "<td>75.0%</td><td>java 75%, python 25%</td>" in html
