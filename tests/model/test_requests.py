import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.errors import InputError
from codechoir.model.requests import Abilities, Chunk, End, Request, Token, check, room_after, stream

ABLE = Abilities(("python", "cpp"), ("prompt", "token"), context=10, vocabulary=30, traces=True, max_logprobs=5)
PLAIN = Abilities((), (), 10, 30, traces=False, max_logprobs=0, lacks=("routes by prompt",))


class Counting:
    """An engine that counts to three; it serves one request, at once."""

    def __init__(self):
        self.cancelled = 0

    def submit(self, request, emit):
        for number in range(3):
            emit(Chunk(str(number), (Token(number),)))
        emit(End("length", len(request.prompt), 3, {}))
        return self

    def cancel(self):
        self.cancelled += 1


def test_a_stream_gives_all_events_and_ends_with_the_last():
    *chunks, end = stream(Counting(), Request("ab", (), 3))
    assert [chunk.text for chunk in chunks] == ["0", "1", "2"]
    assert (end.finish, end.num_prompt_tokens) == ("length", 2)


def test_who_stops_reading_a_stream_cancels_it():
    engine = Counting()
    events = stream(engine, Request("ab", (), 3))
    next(events)
    assert engine.cancelled == 0
    events.close()
    assert engine.cancelled == 1


def test_what_an_engine_can_do_passes():
    check(Request((0, 29), ("x",), 1, 0.5, 0.1, expert="cpp", logprobs=5, traced=True), ABLE)
    check(Request("any text", (), 1, routing="token"), ABLE)


def test_a_refusal_tells_what_the_engine_lacks():
    with pytest.raises(InputError, match="routes by prompt"):
        check(Request("a", (), 1, routing="prompt"), PLAIN)
    with pytest.raises(InputError, match="python, cpp"):
        check(Request("a", (), 1, expert="java"), ABLE)


@given(st.integers(0, 30))
def test_a_prompt_leaves_room_for_a_token(num_tokens):
    if num_tokens < ABLE.context:
        assert room_after(num_tokens, ABLE.context) == ABLE.context - num_tokens
    else:
        with pytest.raises(InputError, match="at most 9"):
            room_after(num_tokens, ABLE.context)
