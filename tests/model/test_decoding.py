import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.decoding import Detokenizer, StopFinder, TextStream, Vocabulary


@pytest.fixture(scope="module")
def vocabulary(random_base):
    """Byte-level: a token is a byte, so that characters are cut anywhere."""
    return Vocabulary(load_tokenizer(random_base))


@pytest.fixture(scope="module")
def by_bytes():
    """The other way to have all bytes, SentencePiece's: words with leading spaces, and `<0x..>` for the rest."""
    pieces = ["<s>", "▁a", "▁b", "c", *(f"<0x{byte:02X}>" for byte in range(256))]
    unigram = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True))
    unigram.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="<s>", bos_token="<s>"))


def streamed(detokenizer, tokens):
    parts = [detokenizer.add(token) for token in tokens]
    return parts, "".join(parts) + detokenizer.rest()


@settings(max_examples=150)
@given(st.text(alphabet="ab é你😀\n\ufffd", max_size=40))
def test_streamed_text_is_the_text_and_parts_are_whole_characters(vocabulary, text):
    parts, whole = streamed(Detokenizer(vocabulary), vocabulary.encode(text))
    assert whole == text
    assert not any("\ufffd" in part for part in parts) or "\ufffd" in text


@settings(max_examples=150)
@given(st.lists(st.integers(1, 256), max_size=60))
def test_any_bytes_stream_as_they_decode(vocabulary, tokens):
    assert streamed(Detokenizer(vocabulary), tokens)[1] == vocabulary.decode(tokens)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["a", "b", "é", "你", "😀", "c"]), max_size=40))
def test_byte_fallback_streams_as_it_decodes(by_bytes, words):
    tokens = []
    for word in words:
        known = by_bytes.token_id("▁" + word) or by_bytes.token_id(word)
        tokens += [known] if known else [by_bytes.token_id(f"<0x{byte:02X}>") for byte in word.encode()]
    parts, whole = streamed(Detokenizer(by_bytes), tokens)
    assert whole == by_bytes.decode(tokens)
    assert not any("\ufffd" in part for part in parts)


stops_and_texts = st.tuples(
    st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.text(alphabet="ab\n", max_size=3), max_size=12),
)


@settings(max_examples=300)
@given(stops_and_texts)
def test_text_stops_at_the_first_stop_string_and_shows_none_of_it(case):
    stops, parts = case
    finder, shown, seen = StopFinder(stops), "", ""
    for part in parts:
        new, stopped = finder.add(part)
        shown, seen = shown + new, seen + part
        places = [seen.find(stop) for stop in stops if stop in seen]
        if places:
            assert stopped and shown == seen[: min(places)]
            return
        assert not stopped
        held = seen[len(shown) :]
        assert seen.startswith(shown)
        # what is held begins a stop string, and no longer text does
        beginnings = {size for stop in stops for size in range(1, len(stop)) if seen.endswith(stop[:size])}
        assert len(held) == max(beginnings, default=0)
    assert shown + finder.rest() == seen


def test_a_healed_beginning_is_taken_off(vocabulary):
    tokens = vocabulary.encode("  yz")
    text = TextStream(vocabulary, (), tokens[0])
    assert [text.add(token)[0] for token in tokens] == ["", " ", "y", "z"]


def test_what_is_held_comes_in_the_end(vocabulary):
    text = TextStream(vocabulary, ("abc",), None)
    assert [text.add(token) for token in vocabulary.encode("xab")] == [("x", False), ("", False), ("", False)]
    assert text.rest() == ("ab", False)


def test_white_space_is_taken_back_from_a_prompts_end(vocabulary):
    tokens = vocabulary.encode("a\n")
    assert vocabulary.heal(tokens) == vocabulary.encode("\n")[0]
    assert vocabulary.decode(tokens) == "a"
    assert vocabulary.heal(tokens) is None


def test_ids_are_found_by_the_vocabularys_spelling(vocabulary):
    assert vocabulary.token_id("a") == vocabulary.encode("a")[0]
    assert vocabulary.token_id("<fim_prefix>") is None
