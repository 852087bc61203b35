"""The playground in a real browser, against the real server with small models.

Two models are served. `choir` is the small composed one. `chain` is a dense model made by hand: it says one known token
after each token, and knows infilling, so that what the page shows of hostile text and of infilling is known beforehand.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from codechoir.model.batching import RunningBatch
from codechoir.model.checkpoint import load_tokenizer, open_checkpoint, write_checkpoint
from codechoir.model.infilling_tokens import with_infilling_tokens
from codechoir.serve.config import ServeConfig
from codechoir.serve.playground import FOLDER
from codechoir.serve.server import Server, check_access, listen, open_model

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver (tools/install-browser.sh installs both)"
)

FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync disable-dev-shm-usage force-prefers-reduced-motion"  # nothing is looked at on its way
)
HOSTILE = "<b id=xyz>"  # what the chain says after "@"
MIDDLE = "(7)"  # what it fills in
CODE = "def grow_4(value):\n    return value + "
NUM_TOKENS = 24
KEY = "a-key-of-this-test"


def chained(base: Path, out: Path) -> Path:
    """A copy of the base that says what follows each token in the chains, then the end.

    Attention and feed-forward blocks add nothing, so the last state is the last token's embedding, whose logit is
    largest for the token whose row of the output layer is that embedding.
    """
    checkpoint, tokenizer = open_checkpoint(base), load_tokenizer(base)
    chains = (
        tokenizer.encode(f"@{HOSTILE}"),
        [tokenizer.convert_tokens_to_ids("<fim_middle>"), *tokenizer.encode(MIDDLE)],
    )
    tensors = {
        name: torch.zeros_like(tensor) if name.endswith(("o_proj.weight", "down_proj.weight")) else tensor.clone()
        for name, tensor in checkpoint.items()
    }
    size, width = tensors["model.embed_tokens.weight"].shape
    noise = torch.randn(size, width, generator=torch.Generator().manual_seed(0))
    embedding = torch.nn.functional.normalize(noise, dim=-1)
    output = torch.zeros(size, width)
    for chain in chains:
        for token, following in zip(chain, [*chain[1:], tokenizer.eos_token_id], strict=True):
            output[following] += embedding[token]
    tensors |= {"model.embed_tokens.weight": embedding, "lm_head.weight": output}
    write_checkpoint(out, checkpoint.config | {"tie_word_embeddings": False}, tensors, tokenizer=base)
    return out


def in_ascii(composed: Path, out: Path) -> Path:
    """A copy of a composed folder that speaks printable ASCII alone, so that its tokens are characters.

    The rows of all other tokens are zero in the embedding, which is the output layer too: their logits are zero.
    """
    shutil.copytree(composed, out)
    tokenizer = load_tokenizer(out)
    spoken = tokenizer.encode("".join(map(chr, range(32, 127))))
    name, found = "model.embed_tokens.weight", 0
    for file in out.glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            kept = torch.zeros_like(tensors[name])
            kept[spoken] = tensors[name][spoken]
            save_file(tensors | {name: kept}, file, metadata={"format": "pt"})
            found += 1
    assert found == 1
    return out


@contextmanager
def serving(models: dict[str, Path], config: ServeConfig) -> Iterator[str]:
    """The address of a server of these models, on a thread of its own."""
    served = [open_model(name, folder, config.max_sequences) for name, folder in models.items()]
    server = Server(served, config, check_access(config), log=lambda _: None)
    with listen(config) as listening:
        thread = threading.Thread(target=server.run, args=(listening, False))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.drain()
            thread.join()


@pytest.fixture(scope="module")
def address(composed: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("chain")
    chain = chained(with_infilling_tokens(random_base, "base", folder / "base"), folder / "chain")
    choir = in_ascii(composed, folder / "choir")
    with serving({"choir": choir, "chain": chain}, ServeConfig(port=0, drain_seconds=1)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in [*FLAGS.split(), f"user-data-dir={profile}"]:
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=ChromeService(executable_path=DRIVER))
        yield driver
        driver.quit()


class Page:
    """The playground as somebody sees and uses it."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser, self.address = browser, address
        self.size(1200, 900)
        self.media()
        if browser.current_url.startswith(address):
            self.js("sessionStorage.clear(); localStorage.clear()")
        self.browser.get(address)
        self.browser.get_log("browser")

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def module(self, name: str, expression: str) -> Any:
        """An expression's value, of one of the page's modules, `m`."""
        script = f"const tell = arguments[0]; import('/playground/{name}').then((m) => tell({expression}))"
        return self.browser.execute_async_script(script)

    def devtools(self, command: str, **arguments: Any) -> None:
        self.browser.execute_cdp_cmd(command, arguments)

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)

    def media(self, **features: str) -> None:
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=told)

    def set(self, field: str, value: object) -> None:
        """Gives a setting a value."""
        event = "new Event('input', { bubbles: true })"
        self.js(f"{field}.value = arguments[0]; {field}.dispatchEvent({event})", value)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """Their texts, as they are and not as they are laid out."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
        )
        return found

    def until(self, holds: Callable[[], Any]) -> None:
        WebDriverWait(self.browser, 20, poll_frequency=0.02).until(lambda _: holds())

    def press(self, *keys: str, chord: str = "") -> None:
        """Presses keys wherever the focus is, while `chord` is held."""
        actions = ActionChains(self.browser, duration=0)
        if chord:
            actions.key_down(chord)
        actions.send_keys(*keys)
        if chord:
            actions.key_up(chord)
        actions.perform()

    def write(self, before: str, after: str = "") -> None:
        """Puts code into the editor with the cursor between the two, as a paste would."""
        self.js(
            "const [before, after] = arguments; code.focus(); code.select();"
            "document.execCommand('insertText', false, before + after);"
            "code.setSelectionRange(before.length, before.length)",
            before,
            after,
        )

    def complete(self) -> None:
        """Asks, and waits for the end."""
        self.press(Keys.ENTER, chord=Keys.CONTROL)
        self.until(self.is_over)

    def is_over(self) -> bool:
        return "Writing" not in self.status() and not self.all("[aria-busy=true]")

    def status(self) -> str:
        return self.texts("#status")[0]

    def code(self) -> str:
        value: str = self.js("return code.value")
        return value

    def choose(self, model: str, route: str, pane: int = 1) -> None:
        """A model, then one of its routes, by their names."""
        self.js(
            "const [model, route, pane] = arguments; const element = document.querySelectorAll('.pane')[pane - 1];"
            "const select = element.querySelector('select');"
            "select.value = model; select.dispatchEvent(new Event('change'));"
            "const called = (row) => row.querySelector('.name').textContent === route;"
            "[...element.querySelectorAll('.route')].find(called).click()",
            model,
            route,
            pane,
        )

    def ask(self, **body: Any) -> dict[str, Any]:
        """What the API answers, asked without the page."""
        settings = {"max_tokens": NUM_TOKENS, "temperature": 0, "seed": 0, "x_trace": True}
        request = urllib.request.Request(
            f"{self.address}/v1/completions",
            json.dumps(settings | body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            choice: dict[str, Any] = json.load(response)["choices"][0]
        return choice


@pytest.fixture
def page(browser: Chrome, address: str) -> Page:
    page = Page(browser, address)
    page.until(lambda: page.all(".route"))
    page.set("max_tokens", NUM_TOKENS)
    return page


@pytest.fixture(scope="module")
def modules(browser: Chrome, address: str) -> Page:
    """Any page of the server, to call its modules from."""
    return Page(browser, address)


def percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{int(100 * share + 0.5)}%"


def test_a_completion_streams_in_at_the_cursor_and_tab_accepts_it(page: Page) -> None:
    page.write(CODE)
    page.js(
        "window.seen = []; new MutationObserver(() => seen.push(ghost.textContent))"
        ".observe(ghost, { childList: true, subtree: true, characterData: true })"
    )
    page.complete()
    expected = page.ask(model="choir", prompt=CODE)["text"]
    seen = [text for text in page.js("return seen") if text]
    assert seen[-1] == expected == page.texts("#ghost")[0]
    assert len(set(seen)) > 5 and all(expected.startswith(text) for text in seen)
    assert page.texts("#before")[0] == CODE == page.code()  # not yet part of the code
    page.press(Keys.TAB)
    assert page.code() == CODE + expected
    assert page.texts("#ghost") == [""]
    page.press("z", chord=Keys.CONTROL)  # undo is the browser's own
    assert page.code() == CODE


@pytest.mark.parametrize("key", [Keys.ESCAPE, Keys.ARROW_LEFT])
def test_a_completion_is_rejected(page: Page, key: str) -> None:
    page.write(CODE)
    page.complete()
    assert page.texts("#ghost") != [""]
    page.press(key)
    page.until(lambda: page.texts("#ghost") == [""])
    assert page.code() == CODE and "Rejected" in page.status()


def test_writing_on_rejects_and_keeps_what_is_written(page: Page) -> None:
    page.write(CODE)
    page.complete()
    page.press("7")
    assert (page.code(), page.texts("#ghost")) == (f"{CODE}7", [""])


def test_escape_stops_what_is_being_written(page: Page) -> None:
    page.set("max_tokens", 1500)
    page.write(CODE)
    page.press(Keys.ENTER, chord=Keys.CONTROL)
    page.until(lambda: page.texts("#ghost")[0])
    page.press(Keys.ESCAPE)
    page.until(page.is_over)
    [figures] = page.texts(".figures")
    count, words = re.fullmatch(r"(\d+) tokens, (.*), [\d.]+ tokens/s", figures).groups()  # type: ignore[union-attr]
    assert words == "stopped" and 0 < int(count) < 1500
    assert page.texts("#ghost")[0] and page.code() == CODE  # what came may still be accepted


def test_code_after_the_cursor_makes_it_an_infilling(page: Page) -> None:
    page.choose("chain", "Dense")
    page.write("x = ", " + 1\n")
    assert "fills in" in page.one("#place").text
    page.complete()
    assert page.texts("#ghost") == [MIDDLE]
    page.press(Keys.ENTER)
    assert page.code() == f"x = {MIDDLE} + 1\n"


def test_a_model_that_cannot_infill_says_so_and_goes_on(page: Page) -> None:
    page.write(CODE, "\n# after")
    assert "the code after is not seen" in page.one("#place").text
    page.complete()
    assert page.texts("#ghost") == [page.ask(model="choir", prompt=CODE)["text"]]


def test_tokens_have_their_experts_colours_and_tell_their_layers(page: Page) -> None:
    page.choose("choir", "Token")
    page.write(CODE)
    page.complete()
    answer = page.ask(model="choir/token", prompt=CODE)
    tokens = [token for token in answer["x_tokens"] if token["text"]]
    shown = page.js(
        "return [...document.querySelectorAll('#ghost .token')].map((e) => [e.textContent, e.dataset.expert,"
        "getComputedStyle(e).textDecorationColor, getComputedStyle(e).textDecorationStyle])"
    )
    assert "".join(text for text, *_ in shown) == answer["text"]
    spelt = "".join(token["text"] for token in tokens)
    assert spelt == CODE[-1] + answer["text"]  # the prompt's last token is made anew, and is no part of the completion
    tokens = tokens[1:]
    first = [Counter(token["experts"]).most_common(1)[0][0] for token in tokens]  # ties go to the first
    assert [expert for _, expert, *_ in shown] == first
    legend = {
        row.find_element("css selector", ".name").text: row.find_element("css selector", ".badge")
        for row in page.all(".route[data-expert]")
    }
    signs = {
        name: (
            badge.value_of_css_property("text-decoration-color"),
            badge.value_of_css_property("text-decoration-style"),
        )
        for name, badge in legend.items()
    }
    assert len(set(signs.values())) == len({style for _, style in signs.values()}) == len(signs) == 3
    assert len({badge.text for badge in legend.values()}) == 3  # colour is not the only sign
    assert all((colour, style) == signs[expert] for text, expert, colour, style in shown if text.strip())
    target = next(element for element in page.all("#ghost .token") if element.text)
    at = page.all("#ghost .token").index(target)
    ActionChains(page.browser, duration=0).move_to_element(target).perform()
    card = page.one("#token-card")
    assert card.is_displayed()
    assert page.texts("#token-card li .unseen") == tokens[at]["experts"]
    assert first[at] in card.text


def test_the_experts_probabilities_are_shown(page: Page) -> None:
    page.write(CODE)
    page.complete()
    route = page.ask(model="choir", prompt=CODE)["x_route"]
    assert f"{route['expert']} chosen with probability {percent(route['probability'])}" in page.texts(".verdict")[0]
    rows = page.all(".route[data-expert]")
    assert {row.get_attribute("data-expert") for row in rows} == set(route["probabilities"])
    for row in rows:
        share = route["probabilities"][row.get_attribute("data-expert")]
        assert row.find_element("css selector", ".share").text == percent(share)
        bar = row.find_element("css selector", ".bar")
        width = bar.find_element("css selector", "span").rect["width"] / bar.rect["width"]
        assert width == pytest.approx(share, abs=0.02)


def test_a_files_name_chooses_the_expert(page: Page) -> None:
    page.one("#path").send_keys("src/Main.java")
    page.write(CODE)
    page.complete()
    assert "java chosen by the file's name" in page.texts(".verdict")[0]


def test_two_are_compared_side_by_side(page: Page) -> None:
    page.write(CODE)
    page.press("c", chord=Keys.ALT)
    page.choose("choir", "java", 1)
    page.choose("choir", "python", 2)
    page.one("#code").click()
    page.js("code.setSelectionRange(code.value.length, code.value.length)")
    page.complete()
    answers = [page.ask(model=f"choir/{name}", prompt=CODE)["text"] for name in ("java", "python")]
    assert answers[0] != answers[1]
    assert page.texts(".output .tokens") == answers
    left, right = page.all(".pane")
    assert left.rect["y"] == right.rect["y"] and left.rect["x"] < right.rect["x"]
    page.press("k", chord=Keys.ALT)
    assert page.code() == CODE + answers[1]


def test_what_a_model_says_is_never_markup(page: Page) -> None:
    page.choose("chain", "Dense")
    page.write("@")
    page.complete()
    assert page.texts("#ghost") == [HOSTILE]
    page.press("i", chord=Keys.ALT)
    assert page.one("#token-card code").text
    page.press("c", chord=Keys.ALT)
    page.complete()
    assert page.texts(".output .tokens")[0] == HOSTILE
    assert not page.all("b, #xyz")


def test_no_script_writes_markup() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", text
    )
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style|https?:|//", page)


def test_nothing_is_asked_of_other_hosts_and_the_policy_is_kept(page: Page) -> None:
    page.write(CODE)
    page.complete()
    page.press("c", chord=Keys.ALT)
    page.complete()
    page.one("#theme").click()
    asked = page.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {url.partition("/playground/")[2] for url in asked} >= {path.name for path in FOLDER.glob("*.[jc]s*")}
    assert all(url.startswith(f"{page.address}/") for url in asked)
    assert page.browser.get_log("browser") == []  # neither errors nor breaches of the policy


def test_all_can_be_reached_and_seen_by_keyboard(page: Page) -> None:
    page.press("x", "\t", Keys.ESCAPE, "\t")  # Tab indents, after Escape it leaves
    assert page.code() == "x    "
    reached = []
    wanted = "button, input, select, textarea"
    for _ in range(40):
        told = page.js(
            "const e = document.activeElement; const style = getComputedStyle(e.closest('.route, .desk') ?? e);"
            "return [e.id || e.className || e.value, e === document.body ||"
            "(style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== 'none' ||"
            "(getComputedStyle(e).outlineStyle !== 'none' && parseFloat(getComputedStyle(e).outlineWidth) >= 2)]"
        )
        assert told[1], f"no visible focus on {told[0]}"
        reached.append(told[0])
        if page.js("return document.activeElement.id") == "code":
            break
        page.press("\t")
    expected = page.js(
        "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility() && !e.disabled &&"
        "(e.type !== 'radio' || e.checked)).map((e) => e.id || e.className || e.value)",
        wanted,
    )
    assert set(expected) <= set(reached)
    page.one("body").send_keys(Keys.NULL)
    page.one("#help-button").send_keys("?")
    assert page.one("#help").is_displayed()
    page.press(Keys.ESCAPE)
    assert not page.one("#help").is_displayed()
    page.js("code.focus()")
    page.press(Keys.ARROW_DOWN, chord=Keys.ALT)
    assert page.js("return document.querySelector('.route input:checked + .name').textContent") == "Token"
    page.complete()
    page.press("i", chord=Keys.ALT)
    page.press(Keys.ARROW_RIGHT)
    assert page.js("return [...ghost.querySelectorAll('.token')].indexOf(document.activeElement)") == 1
    assert page.one("#token-card").is_displayed()
    page.press(Keys.ESCAPE)
    assert page.js("return document.activeElement.id") == "code"
    assert page.texts("#ghost") != [""]  # leaving the tokens rejects nothing


def test_it_fits_a_phone(page: Page) -> None:
    page.size(375, 700)
    page.write("x = " + "long_name + " * 30)
    page.one("#settings-button").click()
    page.complete()
    assert page.js("return document.documentElement.scrollWidth") <= 375
    page.press("i", chord=Keys.ALT)
    card = page.one("#token-card").rect
    assert card["x"] >= 0 and card["x"] + card["width"] <= 375
    page.press("c", chord=Keys.ALT)
    page.complete()
    assert page.js("return document.documentElement.scrollWidth") <= 375
    left, right = page.all(".pane")
    assert left.rect["y"] + left.rect["height"] <= right.rect["y"]


# The contrast of every visible text with what is painted below it, by WCAG 2's formula (relative luminance).
CONTRASTS = """
const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
const brush = canvas.getContext('2d', { willReadFrequently: true });
const painted = (colours) => {
  for (const colour of ['white', ...colours]) { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }
  const parts = [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
  const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const told = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  if (!own || !element.checkVisibility() || element.disabled || element.closest('.unseen, noscript, #code')) continue;
  const grounds = [];
  for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
  const both = [painted(grounds), painted([...grounds, getComputedStyle(element).color])];
  const [light, dark] = both.sort((a, b) => b - a);
  told.push([`${element.tagName} ${element.className}: ${element.textContent}`, (light + 0.05) / (dark + 0.05)]);
}
return told;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_in_light_and_dark(page: Page, scheme: str) -> None:
    page.media(prefers_color_scheme=scheme)
    page.choose("choir", "Token")
    page.write(CODE)
    page.one("#settings-button").click()
    page.complete()
    page.press("i", chord=Keys.ALT)
    page.js("for (const a of document.getAnimations()) a.finish()")
    ground = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) < 128) == (scheme == "dark")
    contrasts = page.js(CONTRASTS)
    assert len(contrasts) > 40
    assert [told for told in contrasts if told[1] < 4.5] == []
    page.one("#theme").click()  # to light, whatever the system has
    assert int(re.findall(r"\d+", page.js("return getComputedStyle(document.body).backgroundColor"))[0]) > 128


def test_nothing_moves_where_motion_is_not_wanted(page: Page) -> None:
    page.js("ghost.hidden = false; ghost.classList.add('writing')")
    running = "return document.getAnimations().length"
    page.media(prefers_reduced_motion="no-preference")
    assert page.js(running) > 0
    page.media(prefers_reduced_motion="reduce")
    assert page.js(running) == 0


def test_settings_are_sent_and_kept(page: Page) -> None:
    whole = page.ask(model="choir", prompt=CODE, max_tokens=9)["text"]
    page.set("max_tokens", 9)
    page.browser.refresh()
    page.until(lambda: page.all(".route"))
    page.write(CODE)
    page.complete()
    assert page.texts("#ghost") == [whole] and "reached the limit of 9" in page.texts(".figures")[0]
    stop = next(character for character in whole[2:] if character.isprintable() and character not in whole[:2] + "\\ ")
    page.press(Keys.ESCAPE)
    page.one("#settings-button").click()
    page.one("#stop").send_keys(stop)
    page.complete()
    assert page.texts("#ghost") == [whole[: whole.index(stop)]]


def test_the_curl_command_asks_the_same(page: Page) -> None:
    grants = {"origin": page.address, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.devtools("Browser.grantPermissions", **grants)
    prompt = "it's = '\"$HOME`\\\n"
    page.write(prompt)
    page.one("#curl").click()
    page.until(lambda: "Copied" in page.status())
    command = page.browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    chunks = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("data: {")]
    streamed = "".join(chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"])
    assert streamed == page.ask(model="choir", prompt=prompt)["text"] != ""


def test_a_server_with_keys_is_asked_with_one_and_a_full_one_says_so(
    browser: Chrome, composed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, step, steps = threading.Event(), RunningBatch.step, count(1)

    def waiting(batch: RunningBatch) -> Any:
        """The first answer is begun, and lasts until it is let go on."""
        if next(steps) > NUM_TOKENS:
            goes_on.wait(timeout=60)
        return step(batch)

    monkeypatch.setattr(RunningBatch, "step", waiting)
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    keys.chmod(0o600)
    config = ServeConfig(port=0, api_key_file=keys, max_sequences=1, max_waiting=0, drain_seconds=0)
    with serving({"choir": composed}, config) as address:
        page = Page(browser, address)
        page.until(lambda: page.one("#key-form").is_displayed())
        assert "asks for an API key" in page.one("#problem").text
        page.one("#key").send_keys("a-wrong-key", Keys.ENTER)
        page.until(lambda: page.one("#key-form").is_displayed())
        page.one("#key").send_keys(KEY, Keys.ENTER)
        page.until(lambda: page.all(".route"))
        assert not page.one("#key-form").is_displayed() and not page.one("#problem").is_displayed()
        assert page.js("return Object.values(sessionStorage)") == [KEY]
        assert KEY not in page.js("return JSON.stringify(localStorage) + document.cookie + document.body.innerHTML")
        body = {"model": "choir/java", "prompt": CODE, "max_tokens": 2000, "temperature": 0, "stream": True}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        other = urllib.request.Request(f"{address}/v1/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(other) as held:
            held.readline()  # the server's one place is taken
            try:
                page.write(CODE)
                page.complete()
                problem = page.one(".pane .problem")
                assert "The server is busy" in problem.text and "Try again in" in problem.text
            finally:
                goes_on.set()

        def answered() -> bool:
            if (problem := page.one(".pane .problem")).is_displayed():
                problem.find_element("css selector", "button").click()
            return page.is_over() and page.texts("#ghost") != [""]

        page.until(answered)
        assert not page.one(".pane .problem").is_displayed()


def test_without_a_network_it_says_so_and_tries_again(page: Page) -> None:
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.devtools("Network.enable")
    page.devtools("Network.emulateNetworkConditions", **offline)
    try:
        page.write(CODE)
        page.complete()
        assert "No answer from the server" in page.one(".pane .problem").text
    finally:
        page.devtools("Network.emulateNetworkConditions", **offline | {"offline": False})
    page.one(".pane .problem button").click()
    page.until(lambda: page.texts("#ghost")[0])


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (404, "does not know this model"),
        (413, "too long"),
        (500, "met an error"),
        (503, "about to stop"),
        (504, "took too long"),
        (400, "refused the request"),
    ],
)
def test_errors_are_told_in_words(modules: Page, status: int, title: str) -> None:
    told, advice = modules.module("api.js", f"(e => [e.title, e.advice])(new m.ApiError({status}, 'because'))")
    assert title in told and len(advice) > 5


def test_letters_and_signs_tell_experts_apart(modules: Page) -> None:
    names = [
        "c",
        "cpp",
        "csharp",
        "go",
        "java",
        "javascript",
        "perl",
        "php",
        "python",
        "r",
        "ruby",
        "rust",
        "typescript",
    ]
    letters = modules.module("experts.js", f"[...m.initials({json.dumps(names)}).values()]")
    assert len(set(letters)) == len(names) and letters[4:6] == ["Ja", "Jv"]
    signs = modules.module(
        "experts.js", f"(e => e.names.map((n) => e.classes(n).join()))(new m.Experts({json.dumps(names)}))"
    )
    assert len(set(signs)) == len(names)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([("ab", ["ab"]), ("c", ["c"])], [["ab", 1], ["c", 1]]),
        ([("", ["a", "b"]), ("abc", ["c"])], [["a", 1], ["b", 1], ["c", 1]]),  # text lags its tokens
        ([("", ["\ufffd"]), ("é", ["\ufffd"])], [["é", 2]]),  # a character of two tokens
        ([("a", ["ab"])], [["a", 1]]),  # the rest began a stop string
        ([("a", []), ("b", [])], [["a", 0], ["b", 0]]),  # a model that tells no tokens
        ([("", [" "]), ("a", ["a"])], [["a", 1]]),  # the prompt's last token, made anew
        ([("a", [" a"]), ("b", ["b"])], [["a", 1], ["b", 1]]),  # and together with the first of the completion
        ([("a", ["", "a"])], [["a", 1]]),  # a special token has no text
    ],
)
def test_tokens_are_put_to_their_text(modules: Page, chunks: list[Any], expected: list[Any]) -> None:
    feed = "".join(
        f"spans.push(...a.add({json.dumps(text)}, {json.dumps([{'text': token} for token in tokens])}));"
        for text, tokens in chunks
    )
    begin, end = "const a = new m.Aligner(); const spans = [];", "spans.push(...a.add('', [], true)); return spans;"
    script = f"(() => {{ {begin} {feed} {end} }})()"
    assert [[span["text"], len(span["tokens"])] for span in modules.module("tokens.js", script)] == expected


@pytest.mark.parametrize(
    ("before", "keys", "expected"),
    [
        ("if x:", ["\n"], "if x:\n    "),
        ("a {\n  b", ["\n"], "a {\n  b\n  "),
        ("\tif x:", ["\n"], "\tif x:\n\t\t"),
        ("    x", [Keys.SHIFT + Keys.TAB], "x"),
        ("  a\n  b", [Keys.CONTROL + "a" + Keys.NULL, Keys.TAB], "    a\n    b"),
    ],
)
def test_the_editor_indents(page: Page, before: str, keys: list[str], expected: str) -> None:
    page.write(before)
    for key in keys:
        page.one("#code").send_keys(key)
    assert page.code() == expected
