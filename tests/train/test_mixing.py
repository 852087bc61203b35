"""Who reads what: every row against the arithmetic of the arms, whoever reads it and wherever a run carries on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.errors import ConfigError
from codechoir.model.token_shards import TokenShard
from codechoir.train.config import TrainConfig, Tuning
from codechoir.train.mixing import Arms, Order, ShardSequences, arms, mixed

NAMES = ("python", "java", "cpp", "javascript")


def config_of(**settings: Any) -> TrainConfig:
    return TrainConfig(**{"sequence_length": 8, **settings})


def rows(order: Order) -> list[tuple[str, int]]:
    numbers = zip(order.language_N.tolist(), order.index_N.tolist(), strict=True)
    return [(order.languages[language], index) for language, index in numbers]


weights = st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 100), max_size=4)


@given(weights, st.integers(0, 9), st.integers(1, 9))
def test_every_row_is_read_once(mixing: dict[str, float], trunk: int, expert: int) -> None:
    """By the trunk or by one expert; the universal model reads what all experts read, and nothing else."""
    given_arms = arms(NAMES, config_of(mixing=mixing, trunk_sequences=trunk, expert_sequences=expert))
    of_experts = [row for name in NAMES for row in rows(given_arms.expert_order(name))]
    assert Counter(rows(given_arms.universal_order())) == Counter(of_experts)
    everything = [(name, index) for name in NAMES for index in range(given_arms.num_sequences(name))]
    assert Counter(rows(given_arms.trunk_order()) + of_experts) == Counter(everything)
    assert all(len(given_arms.expert_order(name).index_N) == expert for name in NAMES)
    for name in NAMES:
        order = rows(given_arms.expert_order(name))
        assert order == sorted(order)


@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_the_universal_model_reads_what_tuning_reads(trunk: int, expert: int, tuned: int, validation: int) -> None:
    """After the experts' rows; nobody reads those that validate."""
    config = config_of(trunk_sequences=trunk, expert_sequences=expert)
    plain, tuning = arms(NAMES, config), arms(NAMES, config, Tuning(tuned, validation))
    left = [(name, trunk + expert + row) for name in NAMES for row in range(tuned)]
    assert Counter(rows(tuning.universal_order())) == Counter(rows(plain.universal_order()) + left)
    for name in NAMES:
        assert rows(tuning.expert_order(name)) == rows(plain.expert_order(name))
        assert tuning.first_tuned(name) == plain.num_sequences(name) == trunk + expert
        assert tuning.num_sequences(name) == trunk + expert + tuned + validation
    assert rows(tuning.trunk_order()) == rows(plain.trunk_order())


@given(weights, st.integers(0, 50))
def test_weights_share_out_the_trunk(mixing: dict[str, float], trunk: int) -> None:
    counts = arms(NAMES, config_of(mixing=mixing, trunk_sequences=trunk)).trunk
    assert sum(counts.values()) == 4 * trunk
    total = sum(mixing.get(name, 1.0) for name in NAMES)
    for name in NAMES:
        assert abs(counts[name] - 4 * trunk * mixing.get(name, 1.0) / total) < 1


def test_equal_weights_take_turns() -> None:
    equal = arms(NAMES[:3], config_of(trunk_sequences=2, expert_sequences=3))
    assert equal == Arms({"python": 2, "java": 2, "cpp": 2}, 3)
    assert rows(equal.trunk_order()) == [(name, index) for index in range(2) for name in NAMES[:3]]
    assert rows(equal.universal_order()) == [(name, index) for index in range(2, 5) for name in NAMES[:3]]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_a_mix_is_even_over_the_whole(counts: list[int]) -> None:
    """In any first part of it, each language has its share, to within one row a language."""
    order = mixed({NAMES[number]: range(count) for number, count in enumerate(counts)})
    assert len(order.index_N) == sum(counts)
    for end in range(1, sum(counts) + 1):
        for number, count in enumerate(counts):
            seen = int((order.language_N[:end] == number).sum())
            assert abs(seen - end * count / sum(counts)) <= len(counts)
            assert order.index_N[:end][order.language_N[:end] == number].tolist() == list(range(seen))


def test_huge_weights_are_weights() -> None:
    huge, small = ({"python": 3 * scale, "java": scale} for scale in (5e307, 1.0))
    told = [arms(("python", "java"), TrainConfig(trunk_sequences=10, mixing=mixing)) for mixing in (huge, small)]
    assert told[0] == told[1]


def test_a_weight_of_no_language() -> None:
    with pytest.raises(ConfigError, match="not trained") as caught:
        arms(NAMES[:2], config_of(mixing={"cobol": 2.0}))
    assert "python, java" in caught.value.allowed


@pytest.fixture(scope="module")
def sequences() -> ShardSequences:
    shards = {
        name: TokenShard(np.arange(80).reshape(10, 8) + 100 * number, np.tile(np.arange(8), (10, 1)), 1, 0, 1.0, 1)
        for number, name in enumerate(NAMES)
    }
    return ShardSequences(arms(NAMES, config_of(trunk_sequences=4, expert_sequences=6)).universal_order(), shards)


@given(batch=st.integers(1, 9), processes=st.integers(1, 4), start=st.integers(0, 3))
def test_rows_do_not_depend_on_who_reads_them(
    sequences: ShardSequences, batch: int, processes: int, start: int
) -> None:
    expected = [
        (number, (100 * number + 8 * index + np.arange(8)).tolist()) for index in range(4, 10) for number in range(4)
    ]
    assert len(sequences) == len(expected) == 24
    read: dict[int, tuple[int, list[int]]] = {}
    for first in range(start * batch, 24, batch):
        numbers = np.arange(first, min(first + batch, 24))
        for share in range(processes):
            mine = numbers[share::processes]
            found = sequences.batch(mine)
            assert found.tokens_BT.shape == found.positions_BT.shape == (len(mine), 8)
            for row, language, tokens in zip(
                mine.tolist(), found.language_B.tolist(), found.tokens_BT.tolist(), strict=True
            ):
                read[row] = (language, tokens)
    assert read == {row: expected[row] for row in range(start * batch, 24)}
    sliced = sequences.batch(slice(3, 9))
    assert sliced.tokens_BT.tolist() == [tokens for _, tokens in expected[3:9]]
