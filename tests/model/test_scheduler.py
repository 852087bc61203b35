import threading

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codechoir.errors import InputError
from codechoir.model.batching import TransformersBackend
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.moe import Routing, load_composed
from codechoir.model.requests import Chunk, End, EngineStoppedError, Failure, Request, stream
from codechoir.model.scheduler import ContinuousEngine

WAIT = 120  # seconds; no test takes them
# Lengths that join, overtake and outlive one another; ids below the small models' vocabulary of 40, none that ends.
PROMPTS = [
    tuple((7 * i + 3 * j) % 36 + 3 for j in range(length)) for i, length in enumerate((3, 19, 1, 8, 30, 5, 12, 2))
]


class Caller:
    """Collects a request's events. `first` is set with the first chunk, `over` with the last event."""

    def __init__(self):
        self.events, self.first, self.over = [], threading.Event(), threading.Event()

    def __call__(self, event):
        self.events.append(event)
        self.first.set()
        if not isinstance(event, Chunk):
            self.over.set()

    def last(self):
        assert self.over.wait(WAIT)
        return self.events[-1]

    def tokens(self):
        self.last()
        return [token.id for event in self.events[:-1] for token in event.tokens]

    def text(self):
        self.last()
        return "".join(event.text for event in self.events[:-1])


@pytest.fixture(scope="module")
def tokenizer(random_base):
    return load_tokenizer(random_base)


@pytest.fixture
def serve(tokenizer):
    """`serve(model)`: an engine that is closed in the end."""
    engines = []

    def start(model, **more):
        engines.append(ContinuousEngine(TransformersBackend(model, tokenizer), **more))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def submit_all(engine, requests):
    callers = [Caller() for _ in requests]
    for caller, request in zip(callers, requests, strict=True):
        engine.submit(request, caller)
    return callers


def small_model(small_config, model_type, **more):
    torch.manual_seed(4)
    config = AutoConfig.for_model(**small_config(model_type, **more))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(5))
    return model


def generated(model, request):
    """The oracle: transformers' own generate, alone. The separator and end of the tokenizer is id 0."""
    ids = torch.tensor([request.prompt])
    new = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_tokens,
        do_sample=False,
        eos_token_id=0,
        pad_token_id=0,
    )
    return new[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("llama", {}),
        ("gpt_bigcode", {}),
        ("gemma2", {"sliding_window": 6}),
        ("starcoder2", {"sliding_window": 6}),
        ("phi", {}),
    ],
)
def test_greedy_under_load_is_transformers_generate_alone(small_config, serve, model_type, more):
    model = small_model(small_config, model_type, **more)
    requests = [Request(prompt, (), 4 + 5 * (i % 5)) for i, prompt in enumerate(PROMPTS)]
    engine = serve(model, max_sequences=5, prefill_tokens=11)  # prompts are read in pieces, places are short
    first = submit_all(engine, requests[:3])
    assert first[0].first.wait(WAIT)  # the others come while these run
    found = first + submit_all(engine, requests[3:])
    for caller, request in zip(found, requests, strict=True):
        expected = generated(model, request)
        assert caller.tokens() == expected
        end = caller.last()
        assert (end.num_prompt_tokens, end.num_tokens) == (len(request.prompt), len(expected))
        assert end.finish == ("end" if expected[-1] == 0 else "length")


@pytest.fixture(scope="module")
def moe_folder(small_moe):
    return small_moe("llama")


@pytest.fixture
def moe(moe_folder):
    return load_composed(moe_folder.folder, Routing.PROMPT, 2, torch.float32)


def mixed_requests():
    """Every way of routing, side by side."""
    ways = [{"expert": "cpp"}, {}, {"routing": "token"}, {"expert": "python"}, {"routing": "prompt"}]
    return [Request(prompt, (), 6 + 3 * (i % 4), **ways[i % 5]) for i, prompt in enumerate(PROMPTS)]


def test_fixed_prompt_and_token_routes_run_side_by_side(moe, moe_folder, serve):
    requests = mixed_requests()
    engine = serve(moe, max_sequences=6, prefill_tokens=16)
    together = submit_all(engine, requests)
    for caller in together:
        assert isinstance(caller.last(), End)
    for caller, request in zip(together, requests, strict=True):
        (alone,) = submit_all(engine, [request])
        assert caller.tokens() == alone.tokens()
        assert caller.last().route == pytest.approx(alone.last().route, abs=2e-4)
        if request.expert:
            assert caller.tokens() == generated(moe_folder.experts[request.expert], request)
            assert caller.last().route == {request.expert: 1.0}
        elif request.routing != "token":
            (chosen,) = caller.last().route
            assert chosen == max(caller.last().probabilities, key=caller.last().probabilities.get)
            assert caller.tokens() == generated(moe_folder.experts[chosen], request)


def test_token_routes_are_those_of_the_model_alone(moe, serve):
    requests = [request for request in mixed_requests() if request.routing == "token"]
    callers = submit_all(serve(moe), requests)
    found = [(caller.tokens(), caller.last().route) for caller in callers]
    moe.set_routing("token", 2)
    for request, (tokens, route) in zip(requests, found, strict=True):
        assert tokens == generated(moe, request)
        assert route == pytest.approx(moe.shares()[0], abs=2e-4)


def test_each_tokens_experts_are_told_layer_by_layer(moe, serve):
    request = Request(PROMPTS[1], (), 4, routing="token", traced=True)
    (caller,) = submit_all(serve(moe), [request])
    tokens = [token for event in caller.events[:-1] for token in event.tokens] if caller.last() else []
    moe.set_routing("token", 2)
    for number, token in enumerate(tokens):
        chosen = []
        handles = [
            layer.mlp.router.register_forward_hook(
                lambda _m, _i, out, chosen=chosen: chosen.append(int(out[-1].argmax()))
            )
            for layer in moe.get_submodule("model.layers")
            if hasattr(layer.mlp, "router")
        ]
        with torch.no_grad():
            moe(torch.tensor([[*request.prompt, *(one.id for one in tokens[:number])]]))
        for handle in handles:
            handle.remove()
        assert token.experts == tuple(moe.experts[expert] for expert in chosen)


def test_the_language_at_the_cursor_decides(composed, serve):
    """Prompt routing reads the last tokens, or those before `cursor` in place of a formatted prompt's end."""
    moe = load_composed(composed, Routing.PROMPT, 1, torch.float32)
    router = moe.prompt_router
    engine = serve(moe)
    python, java = "def size(self):\n    return value + 1\n" * 20, "public final class Size {\n    @Override\n" * 20
    assert len(engine.tokenizer.encode(python)) > router.prefix_tokens < len(engine.tokenizer.encode(java))
    asked = [Request(python + java, (), 1), Request(java + python, (), 1), Request(python, (), 1, cursor=java)]
    for caller, language in zip(submit_all(engine, asked), ("java", "python", "java"), strict=True):
        assert max(caller.last().route, key=caller.last().route.get) == language
        assert caller.last().probabilities[language] == max(caller.last().probabilities.values())


@pytest.fixture
def llama(small_config):
    return small_model(small_config, "llama", vocab_size=257, max_position_embeddings=96)


def test_a_seed_draws_the_same_whatever_else_runs(llama, serve):
    requests = [
        Request(prompt, (), 5 + i, temperature=0.9, top_p=(0.9, 1.0)[i % 2], seed=i) for i, prompt in enumerate(PROMPTS)
    ]
    engine = serve(llama, max_sequences=4)
    together = submit_all(engine, requests)
    for caller, request in zip(together, requests, strict=True):
        (alone,) = submit_all(engine, [request])
        assert caller.tokens() == alone.tokens()
        assert caller.text() == alone.text()
    assert len({tuple(caller.tokens()) for caller in together}) == len(requests)


def test_logprobs_are_log_softmax_of_the_models_logits(llama, serve):
    request = Request(PROMPTS[3], (), 5, temperature=1.3, seed=2, logprobs=4)
    (caller,) = submit_all(serve(llama), [request])
    ids = [*request.prompt, *caller.tokens()]
    with torch.no_grad():
        logs_TV = llama(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    tokens = [token for event in caller.events[:-1] for token in event.tokens]
    for place, token in enumerate(tokens, len(request.prompt) - 1):
        assert token.logprob == pytest.approx(float(logs_TV[place, token.id]), abs=1e-4)
        best, order = logs_TV[place].topk(4)
        assert [id for id, _ in token.top] == order.tolist()
        assert [value for _, value in token.top] == pytest.approx(best.tolist(), abs=1e-4)


def test_cancelling_frees_the_only_place(llama, serve):
    engine = serve(llama, max_sequences=1)
    long, waiting, last = Caller(), Caller(), Caller()
    held = engine.submit(Request((5, 6), (), 90), long)
    queued = engine.submit(Request((5, 6), (), 90), waiting)
    assert long.first.wait(WAIT)
    engine.submit(Request((7,), (), 2), last)
    queued.cancel()
    assert waiting.last().finish == "cancelled" and waiting.tokens() == []
    held.cancel()
    assert long.last().finish in ("cancelled", "length")
    assert long.last().num_tokens == len(long.tokens())
    assert last.last().num_tokens == 2
    held.cancel()  # once more does nothing
    assert len([event for event in long.events if isinstance(event, End)]) == 1


def test_a_caller_that_raises_is_dropped_alone(llama, serve):
    engine = serve(llama)
    calls = []

    def raises(event):
        calls.append(event)
        raise RuntimeError("the caller's own")

    engine.submit(Request((5, 6), (), 50), raises)
    (other,) = submit_all(engine, [Request((7, 8), (), 20)])
    assert other.last().num_tokens == 20
    assert len(calls) == 1


def test_a_failed_pass_is_told_to_all_and_stops_the_engine(llama, serve):
    engine = serve(llama, max_sequences=2)
    callers = submit_all(engine, [Request((5, 6), (), 90) for _ in range(3)])
    assert callers[0].first.wait(WAIT)
    llama.lm_head = torch.nn.Linear(3, 3)  # no pass can succeed
    for caller in callers:
        event = caller.last()
        assert (isinstance(event, Failure) and "worker failed" in str(event.error)) or isinstance(event, End)
    assert isinstance(callers[2].last(), Failure)
    with pytest.raises(EngineStoppedError, match="worker failed"):
        engine.submit(Request((5,), (), 1), Caller())


def test_a_prompt_that_cannot_be_read_fails_alone(llama, serve):
    engine = serve(llama)

    def too_much(_module, inputs):
        if inputs[0].shape[1] == 33:
            raise MemoryError("too much")

    llama.register_forward_pre_hook(too_much)
    (running,) = submit_all(engine, [Request((5, 6), (), 80)])
    assert running.first.wait(WAIT)
    (hit,) = submit_all(engine, [Request((9,) * 33, (), 5)])
    assert isinstance(hit.last(), Failure) and isinstance(hit.last().error, MemoryError)
    assert running.last().num_tokens == 80
    (after,) = submit_all(engine, [Request((5, 6), (), 3)])
    assert after.last().num_tokens == 3


def test_closing_fails_what_runs_and_refuses_more(llama, tokenizer):
    engine = ContinuousEngine(TransformersBackend(llama, tokenizer))
    (caller,) = submit_all(engine, [Request((5, 6), (), 90)])
    engine.close()
    assert isinstance(caller.last(), Failure | End)
    with pytest.raises(EngineStoppedError, match="closed"):
        engine.submit(Request((5,), (), 1), Caller())


def test_streams_are_the_whole_text_cut_at_stops(llama, serve):
    engine = serve(llama)
    *chunks, end = stream(engine, Request((40, 41), (), 30))
    text = "".join(chunk.text for chunk in chunks)
    tokens = [token.id for chunk in chunks for token in chunk.tokens]
    assert text == engine.tokenizer.decode(tokens, skip_special=True)
    assert end.num_tokens == len(tokens) == 30
    stop = text[8:10]
    *chunks, end = stream(engine, Request((40, 41), (stop,), 30))
    assert "".join(chunk.text for chunk in chunks) == text[: text.find(stop)]
    assert end.finish == "stop"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"stop": ("",)}, "stop strings"),
        ({"logprobs": 21}, "logprobs"),
        ({"expert": "cobol"}, "no such expert"),
        ({"routing": "token"}, "no such routing"),
        ({"traced": True}, "no token's route"),
        ({"prompt": (5, 257)}, "token ids"),
        ({"prompt": (5,) * 96}, "too long"),
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_asked(llama, serve, more, message):
    with pytest.raises(InputError, match=message):
        serve(llama).submit(Request(**({"prompt": (5, 6), "stop": (), "max_tokens": 3} | more)), Caller())


def test_the_context_bounds_a_completion(llama, serve):
    (caller,) = submit_all(serve(llama), [Request((5,) * 90, (), 50)])
    assert (caller.last().finish, caller.last().num_tokens) == ("length", 6)
