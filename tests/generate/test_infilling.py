"""Which line is cut out of a file, and the prompt that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from codechoir.documents import Text
from codechoir.generate.infilling import Limits, cut, cut_first
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.infilling_format import InfillingFormat, infilling_format
from codechoir.train.infilling import Pieces, tokens_of

ROOMY = Limits(10_000, 10_000)
CONTROL = ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>")
FILE = (
    "first_line_of_the_file = 1\n"
    "def plain(value):\n"
    "\n"
    "    indented = value + 1  \r\n"
    "\t}) // 9 abc\n"
    "123456789\n"
    " 1 2 3 4 5 6 7 8 9 \n"
    "last_line = None"
)


@pytest.fixture(scope="module")
def form() -> InfillingFormat:
    """Of a small vocabulary of pieces, so that a text's tokens depend on where it is cut."""
    trained = ByteLevelBPETokenizer(add_prefix_space=True)
    lines = ["    return value\n", "\n\n    def indented(self):\n", "import value, indented\n", "  }) // 9 abc\r\n"]
    trained.train_from_iterator(lines * 9, vocab_size=330, min_frequency=2, special_tokens=list(CONTROL))
    return format_of(trained)


def format_of(tokenizer: ByteLevelBPETokenizer) -> InfillingFormat:
    found = infilling_format(PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token=CONTROL[0]))
    assert found is not None
    return found


def drawn(content: str, form: InfillingFormat, limits: Limits = ROOMY) -> set[str]:
    """Every line that some seed draws."""
    gaps = [cut(Text("key", "package", content), seed, form, limits) for seed in range(60)]
    return {gap.middle for gap in gaps if gap is not None}


lines = st.sampled_from(
    [
        "    return value\n",
        "def indented(self):\n",
        "\n",
        "}\n",
        "é = '你好, 你好, 你好'\r\n",
        "<fim_suffix> <|endoftext|>\n",
    ]
)
contents = st.one_of(
    st.lists(lines, min_size=4, max_size=20).map("".join), st.text(st.sampled_from("ab1(\n\r\té你 \u2028"), max_size=90)
)


@given(contents, st.integers(0, 9), st.integers(8, 120), st.integers(1, 30))
def test_a_gap_is_the_files_beginning_with_a_line_cut_out(
    form: InfillingFormat, content: str, seed: int, prompt: int, line: int
) -> None:
    text = Text("key", "package", content)
    gap = cut(text, seed, form, Limits(prompt, line))
    assert gap == cut(text, seed, form, Limits(prompt, line))
    if gap is None:  # the tests below hold that a line that will do is drawn
        return
    assert (gap.key, gap.package) == ("key", "package")
    whole = gap.prefix + gap.middle + gap.suffix
    assert content.startswith(whole)
    assert len(form.prompt(gap.prefix, gap.suffix)) <= prompt
    assert len(form.encoder.encode_inner(gap.middle)) <= line
    assert whole == content or len(form.encoder.encode(content)) > prompt - 4
    before, after = gap.prefix.rpartition("\n"), gap.suffix.partition("\n")
    assert before[1] == "\n" and (after[1] == "\n" or whole == content)
    assert not before[2].strip() and not after[0].strip()
    assert gap.middle == gap.middle.strip() and "\n" not in gap.middle
    assert len("".join(gap.middle.split())) >= 10


def test_every_line_of_some_substance_but_the_first_is_drawn(form: InfillingFormat) -> None:
    expected = {"def plain(value):", "indented = value + 1", "last_line = None"}
    assert drawn(FILE, form) == expected
    assert drawn(FILE.replace("last_line = None", "last = 1"), form) == expected - {"last_line = None"}
    assert drawn(FILE.replace("1 2 3", "0 1 2 3"), form) == expected | {"0 1 2 3 4 5 6 7 8 9"}


def test_indentation_is_given_and_what_ends_the_line_too(form: InfillingFormat) -> None:
    gaps = [cut(Text("key", "package", FILE), seed, form, ROOMY) for seed in range(60)]
    (one,) = {gap for gap in gaps if gap is not None and gap.middle.startswith("indented")}
    assert one.prefix.endswith("(value):\n\n    ")
    assert one.suffix.startswith("  \r\n\t}) // 9")


def test_a_line_that_is_not_whole_in_the_prompt_is_not_drawn(form: InfillingFormat) -> None:
    upto = len(form.encoder.encode(FILE[: FILE.index("  \r\n")]))
    assert drawn(FILE, form, Limits(upto + 4, 99)) == {"def plain(value):"}
    assert drawn(FILE, form, Limits(99, len(form.encoder.encode_inner("last_line = None")) - 1)) < drawn(FILE, form)


def test_pieces_that_have_more_tokens_than_the_whole_must_fit_too() -> None:
    """Five blanks and a rule are `\\n....` and `.----------`; without the rule they are `\\n`, `..` and `...`."""
    merges = [("Ġ", "Ġ"), ("ĠĠ", "Ġ"), ("ĠĠ", "ĠĠ"), ("Ċ", "ĠĠĠĠ")]
    merges += [("-" * n, "-" * m) for n, m in ((1, 1), (2, 2), (4, 4), (8, 2))] + [("Ġ", "-" * 10)]
    pieces = [*CONTROL, *ByteLevel.alphabet(), *("".join(pair) for pair in merges)]
    tokenizer = ByteLevelBPETokenizer({piece: number for number, piece in enumerate(pieces)}, merges)
    tokenizer.add_special_tokens(list(CONTROL))
    form = format_of(tokenizer)
    content = "a\n     ----------\n"
    assert len(form.encoder.encode(content)) == 4
    assert len(form.prompt("a\n     ", "\n")) == 4 + 5
    assert drawn(content, form, Limits(8, 99)) == set()
    assert drawn(content, form, Limits(9, 99)) == {"----------"}


def test_a_file_by_itself_draws_its_line_by_its_key(form: InfillingFormat) -> None:
    found = {cut(Text(str(number), "package", FILE), 0, form, ROOMY) for number in range(40)}
    assert len({gap.middle for gap in found if gap is not None}) == 3


def test_files_without_a_line_are_passed_over_and_no_more_are_read_than_needed(form: InfillingFormat) -> None:
    def texts() -> Iterator[Text]:
        for number, content in enumerate(("", FILE, "a\nb\n", FILE, FILE)):
            yield Text(str(number), "package", content)
        raise AssertionError("read too far")

    assert [gap.key for gap in cut_first(texts(), 3, 0, form, ROOMY)] == ["1", "3", "4"]
    assert cut_first(texts(), 0, 0, form, ROOMY) == []
    assert [gap.key for gap in cut_first([Text("a", "p", FILE), Text("b", "p", "")], 3, 0, form, ROOMY)] == ["a"]


@given(contents, contents, contents)
def test_the_prompt_is_what_training_puts_before_a_middle(
    form: InfillingFormat, prefix: str, middle: str, suffix: str
) -> None:
    trained = [form.separator, *tokens_of(Pieces(prefix, middle, suffix, False), form.encoder, form.sentinels)]
    prompt = form.prompt(prefix, suffix)
    assert trained == [*prompt, *form.encoder.encode_inner(middle), form.sentinels.end]
    marks = [token for token in prompt if token in (form.separator, *(form.sentinels.psm([], [])))]
    assert marks == [form.separator, *form.sentinels.psm([], [])]  # whatever the texts spell out


def test_a_tokenizer_without_infilling_tokens_has_no_format(random_base: Path) -> None:
    assert infilling_format(load_tokenizer(random_base)) is None
