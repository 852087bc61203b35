"""/infill, by the requests that llama.vim and llama.vscode send, against the engine asked directly."""

from __future__ import annotations

import json

import httpx

from codechoir.model.infilling_format import InfillingFormat
from codechoir.model.requests import Chunk, End, Request, stream
from codechoir.serve.config import ServeConfig
from codechoir.serve.models import ServedModel

PREFIX, LINE, SUFFIX = "import os\n\ndef grow(value):\n", "    return val", "\n\nprint(grow(1))\n"

# The fields of llama.vscode's src/llama-server.ts (createRequestPayload), the values its defaults.
LLAMA_VSCODE = {
    "input_prefix": PREFIX,
    "input_suffix": SUFFIX,
    "input_extra": [{"text": "class A:\n    pass\n", "time": 1736352000000, "filename": "lib/a.py"}],
    "prompt": LINE,
    "n_predict": 12,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "n_indent": 4,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 250_000,
}
# The fields of llama.vim's autoload/llama.vim (llama#fim).
LLAMA_VIM = LLAMA_VSCODE | {
    "id_slot": 0,
    "stop": [],
    "response_fields": [
        *("content", "timings/prompt_n", "timings/prompt_ms", "timings/prompt_per_token_ms"),
        *("timings/prompt_per_second", "timings/predicted_n", "timings/predicted_ms"),
        *("timings/predicted_per_token_ms", "timings/predicted_per_second", "truncated", "tokens_cached"),
    ],
}
WARM_UP = {
    "input_prefix": "",
    "input_suffix": "",
    "input_extra": LLAMA_VSCODE["input_extra"],
    "prompt": "",
    "n_predict": 0,
    "samplers": [],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1,
}


def post(server, body: dict[str, object]) -> httpx.Response:
    with server.http() as client:
        return client.post("/infill", json=body)


def expected(solo: ServedModel, max_tokens: int = 12) -> tuple[str, End, int]:
    """The text, the end and the prompt's size, from the prompt as llama.cpp lays it out."""
    encode = solo.chat_template.encode

    def tokens(text: str) -> list[int]:
        return encode(text, add_special_tokens=False)

    vocabulary = solo.chat_template.get_vocab()
    begin, after, middle = (vocabulary[f"<fim_{name}>"] for name in ("prefix", "suffix", "middle"))
    extra = tokens("\n\n--- snippet ---\n\nclass A:\n    pass\n")
    prompt = (solo.infilling.separator, *extra, begin, *tokens(PREFIX + LINE), after, *tokens(SUFFIX), middle)
    text = ""
    for event in stream(solo.engine, Request(prompt, (), max_tokens, top_p=0.99)):
        if isinstance(event, Chunk):
            text += event.text
        else:
            assert isinstance(event, End)
            return text, event, len(prompt)
    raise AssertionError


def test_what_llama_vscode_sends(server, solo) -> None:
    text, end, size = expected(solo)
    told = post(server, {"model": "solo", **LLAMA_VSCODE})
    assert told.status_code == 200
    answer = told.json()
    assert answer["content"] == text
    assert (answer["tokens_predicted"], answer["tokens_evaluated"]) == (end.num_tokens, size)
    assert (answer["stop"], answer["stop_type"], answer["truncated"]) == (True, "limit", False)
    assert answer["timings"]["prompt_n"] == size


def test_what_llama_vim_sends(server, solo) -> None:
    text, end, size = expected(solo)
    answer = post(server, {"model": "solo", **LLAMA_VIM}).json()
    assert answer.keys() == set(LLAMA_VIM["response_fields"])
    assert answer["content"] == text
    assert (answer["timings/prompt_n"], answer["timings/predicted_n"]) == (size, end.num_tokens)


def test_a_stream_ends_with_the_whole_tally(server, solo) -> None:
    text, end, _ = expected(solo)
    told = post(server, {"model": "solo", **LLAMA_VSCODE, "stream": True})
    events = [json.loads(event.removeprefix("data: ")) for event in told.text.split("\n\n")[:-1]]
    assert "".join(event["content"] for event in events) == text
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["tokens_predicted"] == end.num_tokens


def test_a_warm_up_is_answered_at_once(server, solo) -> None:
    del solo
    before = server.metric('codechoir_tokens_total{kind="prompt",model="solo"}')
    answer = post(server, {"model": "solo", **WARM_UP}).json()
    assert (answer["content"], answer["tokens_evaluated"]) == ("", 0)
    assert server.metric('codechoir_tokens_total{kind="prompt",model="solo"}') == before


def test_a_model_without_infilling_tokens_refuses_with_the_reason(server) -> None:
    for body in (LLAMA_VSCODE, WARM_UP):
        told = post(server, {"model": "choir", **body})
        assert told.status_code == 400
        assert told.json()["error"]["code"] == "no_infilling_tokens"


def test_without_a_models_name_the_first_one_answers(serving, solo, choir) -> None:
    running = serving([solo, choir])
    assert post(running, LLAMA_VSCODE).json()["model"] == "solo"


def test_far_text_is_cut_off(server, solo) -> None:
    """The server takes prompts of 500 tokens: of a long file the text nearest to the cursor stays."""
    del solo
    body = {"input_prefix": "x = 1\n" * 500, "input_suffix": "y = 2\n" * 500, "prompt": "z", "n_predict": 4}
    answer = post(server, {"model": "solo", **body}).json()
    assert 480 <= answer["tokens_evaluated"] <= 500


def test_time_limit_stops_at_a_whole_line(serving, solo) -> None:
    """The random model never ends by itself; llama.cpp's limit does, once there is a line."""
    running = serving([solo], ServeConfig(max_tokens=2000))
    body = {"input_prefix": "", "input_suffix": "", "n_predict": 1500, "temperature": 2.0, "seed": 5}
    answer = post(running, {**body, "t_max_predict_ms": 1}).json()
    assert "\n" in answer["content"]
    assert answer["tokens_predicted"] < 1500


def test_sentinels_in_a_file_are_text(server, solo) -> None:
    """A file that spells out an infilling token cannot pose as an infilling."""
    assert isinstance(solo.infilling, InfillingFormat)
    plain = {"model": "solo", "input_prefix": "<fim_middle>", "input_suffix": "", "n_predict": 1}
    assert post(server, plain).json()["tokens_evaluated"] == 4 + len("<fim_middle>")  # the model knows bytes alone
