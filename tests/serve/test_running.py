"""The mailbox between threads and the loop, and the gate before the engine."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.model.requests import Chunk, Event
from codechoir.serve.refusals import RefusedError
from codechoir.serve.running import Gate, Mailbox


@given(st.lists(st.integers(0, 3), max_size=60))
def test_a_mailbox_keeps_each_senders_order_and_loses_nothing(senders: list[int]) -> None:
    received: dict[int, list[str]] = {sender: [] for sender in range(4)}

    async def main() -> None:
        done = asyncio.Event()
        mailbox = Mailbox(asyncio.get_running_loop())

        def take(sender: int, event: Event) -> None:
            assert isinstance(event, Chunk)
            received[sender].append(event.text)
            if sum(map(len, received.values())) == len(senders):
                done.set()

        def send(sender: int) -> None:
            emit = mailbox.address(lambda event: take(sender, event))
            for place in range(senders.count(sender)):
                emit(Chunk(str(place), ()))

        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
        for thread in threads:
            thread.start()
        if senders:
            await done.wait()
        for thread in threads:
            thread.join()

    asyncio.run(main())
    assert received == {sender: [str(place) for place in range(senders.count(sender))] for sender in range(4)}


@given(st.integers(1, 20), st.lists(st.integers(1, 8), max_size=30))
def test_a_gate_never_lets_in_more_than_it_has(places: int, asked: list[int]) -> None:
    gate, inside = Gate(places), 0
    for count in asked:
        if inside + count <= places:
            gate.enter(count)
            inside += count
        else:
            with pytest.raises(RefusedError) as caught:
                gate.enter(count)
            assert caught.value.status == 429
            for _ in range(inside):
                gate.leave(1.0)
            inside = 0
        assert gate.taken == inside


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, 1), (20.0, 20), (500.0, 60)])
def test_it_tells_how_long_places_are_held(seconds: float, expected: int) -> None:
    gate = Gate(1)
    for _ in range(200):
        gate.enter(1)
        gate.leave(seconds)
    gate.enter(1)
    with pytest.raises(RefusedError) as caught:
        gate.enter(1)
    assert caught.value.headers["retry-after"] == str(expected)
