"""/v1/completions and /v1/chat/completions, called by OpenAI's own client, against the engine asked directly."""

from __future__ import annotations

import json

import openai
import pytest

from codechoir.model.requests import Chunk, End, Request, stream
from codechoir.serve.models import ServedModel

PROMPT = "def grow(value):\n    return value"


def direct(model: ServedModel, request: Request) -> tuple[str, End]:
    """What the engine says without a server between."""
    text = ""
    for event in stream(model.engine, request):
        if isinstance(event, Chunk):
            text += event.text
        else:
            assert isinstance(event, End)
            return text, event
    raise AssertionError


def wanted(**settings: object) -> Request:
    return Request(**{"prompt": PROMPT, "stop": (), "max_tokens": 12, **settings})


@pytest.mark.parametrize(
    ("id", "settings"),
    [("choir", {"routing": "prompt"}), ("choir/auto", {"routing": "prompt"}), ("choir/token", {"routing": "token"}),
     ("choir/java", {"expert": "java"}), ("solo", {})],
)  # fmt: skip
def test_each_name_gives_what_the_engine_gives(server, choir, solo, id: str, settings: dict[str, str]) -> None:
    text, end = direct(choir if id.startswith("choir") else solo, wanted(**settings))
    asked = {"model": id, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    whole = server.openai().completions.create(**asked)
    assert whole.choices[0].text == text
    assert whole.usage.completion_tokens == end.num_tokens
    assert whole.usage.prompt_tokens == end.num_prompt_tokens
    chunks = list(server.openai().completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].x_route == whole.x_route
    if not end.route:
        assert whole.x_route["expert"] is None
        return
    expert = max(end.route, key=end.route.get)
    assert whole.x_route["expert"] == expert
    probability = end.probabilities.get(expert, end.route[expert])
    assert whole.x_route["probability"] == pytest.approx(probability, abs=1e-4)


def test_a_sampled_answer_is_its_seeds(server, choir) -> None:
    text, _ = direct(choir, wanted(temperature=0.8, top_p=0.9, seed=7, routing="prompt"))
    asked = {"model": "choir", "prompt": PROMPT, "max_tokens": 12, "temperature": 0.8, "top_p": 0.9}
    create = server.openai().completions.create
    assert create(**asked, seed=7).choices[0].text == text
    three = create(**asked, seed=7, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    next_text, _ = direct(choir, wanted(temperature=0.8, top_p=0.9, seed=8, routing="prompt"))
    assert [choice.text for choice in three.choices[:2]] == [text, next_text]


def test_prompts_come_as_text_or_tokens_one_or_many(server, solo) -> None:
    ids = solo.chat_template(PROMPT, add_special_tokens=False)["input_ids"]
    texts = [direct(solo, wanted(prompt=prompt))[0] for prompt in (PROMPT, tuple(ids), "import os")]
    create = server.openai().completions.create
    asked = {"model": "solo", "max_tokens": 12, "temperature": 0}
    assert create(prompt=ids, **asked).choices[0].text == texts[1]
    many = create(prompt=[PROMPT, "import os"], **asked)
    assert [choice.text for choice in many.choices] == [texts[0], texts[2]]
    assert [choice.text for choice in create(prompt=[ids, ids], **asked).choices] == [texts[1]] * 2
    pieces = ["", ""]
    for chunk in create(prompt=[PROMPT, "import os"], **asked, stream=True):
        pieces[chunk.choices[0].index] += chunk.choices[0].text
    assert pieces == [texts[0], texts[2]]


def test_a_suffix_is_an_infilling(server, solo) -> None:
    encode = solo.chat_template.encode
    prefix, suffix = encode(PROMPT, add_special_tokens=False), encode("\n# end", add_special_tokens=False)
    vocabulary = solo.chat_template.get_vocab()
    begin, after, middle = (vocabulary[f"<fim_{name}>"] for name in ("prefix", "suffix", "middle"))
    ids = (solo.infilling.separator, begin, *prefix, after, *suffix, middle)
    text, _ = direct(solo, wanted(prompt=ids))
    told = server.openai().completions.create(
        model="solo", prompt=PROMPT, suffix="\n# end", max_tokens=12, temperature=0
    )
    assert told.choices[0].text == text
    assert told.usage.prompt_tokens == len(ids)
    with pytest.raises(openai.BadRequestError, match="no infilling tokens"):
        server.openai().completions.create(model="choir", prompt=PROMPT, suffix="x")


def test_echo_goes_before(server, choir) -> None:
    text, _ = direct(choir, wanted(routing="prompt"))
    asked = {"model": "choir", "prompt": PROMPT, "temperature": 0, "echo": True}
    create = server.openai().completions.create
    assert create(**asked, max_tokens=12).choices[0].text == PROMPT + text
    chunks = list(create(**asked, max_tokens=12, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT + text
    assert create(**asked, max_tokens=0).choices[0].text == PROMPT


def test_best_of_keeps_the_most_probable(server) -> None:
    asked = {"model": "choir/java", "prompt": PROMPT, "max_tokens": 6, "temperature": 1.5, "seed": 3}
    create = server.openai().completions.create
    drawn = create(**asked, n=4, logprobs=0).choices
    means = {choice.text: sum(choice.logprobs.token_logprobs) / 6 for choice in drawn}
    best = create(**asked, n=2, best_of=4)
    assert [choice.text for choice in best.choices] == sorted(means, key=means.get, reverse=True)[:2]
    assert best.usage.completion_tokens == 24
    with pytest.raises(openai.BadRequestError, match="best_of"):
        create(**asked, n=2, best_of=1)


def test_log_probabilities_are_the_engines(server, solo) -> None:
    told = server.openai().completions.create(
        model="solo", prompt=PROMPT, max_tokens=5, temperature=0, logprobs=3
    ).choices[0].logprobs  # fmt: skip
    events = list(stream(solo.engine, wanted(max_tokens=5, logprobs=3)))
    tokens = [token for event in events if isinstance(event, Chunk) for token in event.tokens]
    assert told.token_logprobs == pytest.approx([token.logprob for token in tokens], abs=1e-5)
    for top, token in zip(told.top_logprobs, tokens, strict=True):
        assert max(top.values()) == pytest.approx(token.top[0][1], abs=1e-5)
        assert list(top.values())[-1] == pytest.approx(token.logprob, abs=1e-5)
    assert told.text_offset[0] == 0
    assert told.text_offset == sorted(told.text_offset)


def test_stop_strings_end_it(server, choir) -> None:
    text, _ = direct(choir, wanted(routing="prompt"))
    stop = text[4:6]
    create = server.openai().completions.create
    told = create(model="choir", prompt=PROMPT, max_tokens=12, temperature=0, stop=stop).choices[0]
    assert (told.text, told.finish_reason) == (text[: text.index(stop)], "stop")
    told = create(model="choir", prompt=PROMPT, max_tokens=12, temperature=0, stop=["\0\1", stop]).choices[0]
    assert told.text == text[: text.index(stop)]


def test_usage_ends_a_stream_that_asks_for_it(server) -> None:
    chunks = list(
        server.openai().completions.create(
            model="choir", prompt=PROMPT, max_tokens=3, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_files_name_chooses_the_expert(server, choir) -> None:
    for path, expert in (("a/B.java", "java"), ("x.cpp", "cpp"), ("script.py", "python")):
        text, _ = direct(choir, wanted(expert=expert))
        told = server.openai().completions.with_raw_response.create(
            model="choir", prompt=PROMPT, max_tokens=12, temperature=0, extra_body={"x_path": path}
        )
        assert told.headers["x-route"] == f"{expert};probability=1.0000;source=path"
        assert told.parse().choices[0].text == text
    told = server.openai().completions.create(
        model="choir", prompt=PROMPT, max_tokens=2, extra_body={"x_path": "notes.rs"}
    )
    assert told.x_route["source"] == "prompt"


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/completions", {"prompt": [PROMPT, "public class A {"], "n": 2}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
    ("/infill", {"input_prefix": PROMPT, "input_suffix": "\n"}),
])  # fmt: skip
def test_a_streams_header_tells_the_route_that_its_end_tells(
    serving, filling_choir, path: str, body: dict[str, object]
) -> None:
    with serving([filling_choir]).http() as client:
        for tail, source in (("", "prompt"), ("/auto", "prompt"), ("/java", "model"), ("/token", None)):
            asked = {"model": f"choir{tail}", "max_tokens": 3, "n_predict": 3, **body}
            streamed = client.post(path, json={**asked, "stream": True})
            if source is None:  # the tokens' experts are not known yet
                assert "x-route" not in streamed.headers
                continue
            assert streamed.headers["x-route"] == client.post(path, json=asked).headers["x-route"]
            events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
            told = [event["x_route"] for event in events if "x_route" in event]
            routes = [f"{one['expert']};probability={one['probability']:.4f};source={source}" for one in told]
            assert streamed.headers["x-route"] in routes  # other sequences may end before the first one


def test_each_tokens_experts_are_told(server, choir) -> None:
    with server.http() as client:
        asked = {"model": "choir/token", "prompt": PROMPT, "max_tokens": 4, "temperature": 0, "x_trace": True}
        told = client.post("/v1/completions", json=asked).json()["choices"][0]
    events = list(stream(choir.engine, wanted(max_tokens=4, routing="token", traced=True)))
    tokens = [token for event in events if isinstance(event, Chunk) for token in event.tokens]
    assert [tuple(token["experts"]) for token in told["x_tokens"]] == [token.experts for token in tokens]
    assert [len(token.experts) for token in tokens] == [2] * 4  # the random model's layers


def test_chat_uses_the_models_template(server, solo) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "grow"}]
    text = "<|system|>Be brief.\n<|user|>grow\n<|assistant|>"
    ids = tuple(solo.chat_template(text, add_special_tokens=False)["input_ids"])
    expected, end = direct(solo, wanted(prompt=ids))
    create = server.openai().chat.completions.create
    told = create(model="solo", messages=messages, max_tokens=12, temperature=0)
    assert told.choices[0].message.content == expected
    assert told.usage.prompt_tokens == end.num_prompt_tokens
    parts = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "grow"}]},
    ]
    assert create(model="solo", messages=parts, max_tokens=12, temperature=0).choices[0].message.content == expected
    chunks = list(create(model="solo", messages=messages, max_completion_tokens=12, temperature=0, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    assert chunks[-1].choices[0].finish_reason == "length"
    told = create(model="solo", messages=messages, max_tokens=2, temperature=0, logprobs=True, top_logprobs=2)
    content = told.choices[0].logprobs.content
    assert len(content) == 2
    assert content[0].logprob == content[0].top_logprobs[0].logprob


@pytest.mark.parametrize(
    ("model", "change", "said"),
    [
        ("choir", {}, "no chat template"),
        ("solo", {"tools": [{"type": "function"}]}, "tools are not supported"),
        ("solo", {"messages": [{"role": "tool", "content": "x"}]}, "chat template refuses"),
        ("solo", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text alone"),
        ("solo", {"response_format": {"type": "json_object"}}, "response_format"),
        ("solo", {"messages": []}, "messages"),
    ],
)
def test_a_chat_that_cannot_be_is_refused(server, model: str, change: dict[str, object], said: str) -> None:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], **change}
    with pytest.raises(openai.BadRequestError, match=said):
        server.openai().post("/chat/completions", body=asked, cast_to=object)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty is not supported"),
        ({"frequency_penalty": -1}, "frequency_penalty is not supported"),
        ({"logit_bias": {"50256": -100}}, "logit_bias is not supported"),
        ({"echo": True, "logprobs": 1}, "log probabilities of the prompt"),
        ({"n": 17}, "17 completions"),
        ({"prompt": ["a"] * 9, "n": 2}, "18 completions"),
        ({"max_tokens": 201}, "200 are allowed"),
        ({"max_tokens": 0}, "echo alone"),
        ({"prompt": "x " * 2000}, "500 are allowed"),
        ({"prompt": [1] * 501}, "501 tokens"),
        ({"prompt": [10**9]}, "token ids out of range"),
        ({"prompt": []}, "no prompt"),
        ({"stop": [""]}, "stop"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"logprobs": 21}, "logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"seed": "x"}, "seed"),
    ],
)
def test_what_cannot_be_done_is_refused(server, change: dict[str, object], said: str) -> None:
    asked = {"model": "choir", "prompt": PROMPT, **change}
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai().post("/completions", body=asked, cast_to=object)
    assert said in caught.value.message
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


def test_settings_that_round_to_nothing_are_greedy(server) -> None:
    asked = {"model": "choir", "prompt": PROMPT, "max_tokens": 4}
    greedy, tiny = (
        server.openai().completions.create(**asked, **settings).choices[0].text
        for settings in ({"temperature": 0}, {"temperature": 1e-300, "top_p": 5e-274})
    )
    assert tiny == greedy


def test_neutral_settings_and_unknown_fields_pass(server) -> None:
    asked = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "user": "u", "top_k": 40, "seed": 1}
    with server.http() as client:
        told = client.post("/v1/completions", json={"model": "choir", "prompt": "x", "max_tokens": 1, **asked})
    assert told.status_code == 200


def test_an_unknown_model_is_404(server) -> None:
    for name in ("gpt-4", "choir/rust", "choir/auto/x", "solo/auto", "solo/token"):
        with pytest.raises(openai.NotFoundError, match="choir/auto, choir/token, choir/"):
            server.openai().completions.create(model=name, prompt="x")


def test_the_models_are_listed(server) -> None:
    told = {model.id: model for model in server.openai().models.list()}
    assert told.keys() == {"choir", "solo"} | {f"choir/{tail}" for tail in ("auto", "token", "python", "java", "cpp")}
    assert (told["choir"].x_routing, told["choir/token"].x_routing, told["choir/java"].x_routing) == (
        *("prompt", "token", "java"),
    )
    assert (told["solo"].x_infill, told["solo"].x_chat, told["solo"].x_routing) == (True, True, None)


def test_events_are_json_lines_that_end_with_done(server) -> None:
    asked = {"model": "choir", "prompt": PROMPT, "max_tokens": 3, "stream": True}
    with server.http() as client:
        told = client.post("/v1/completions", json=asked)
    assert told.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = told.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: "))["object"] == "text_completion" for event in events)
