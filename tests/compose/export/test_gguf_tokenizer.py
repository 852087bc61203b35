"""The splitting rule is told from a real tokenizer.json, and what a GGUF file says makes the same tokens again."""

import json

import gguf
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as split

from codechoir.compose.export.comparison import TEXT
from codechoir.compose.export.gguf_tokenizer import read_tokenizer, splitting_rule
from codechoir.errors import IncompatibleModelError, InputError

# As published in the tokenizer.json of Qwen2.5-Coder, Llama 3 and DeepSeek-Coder.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
DEEPSEEK = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")


def isolated(pattern):
    return split.Split(Regex(pattern), "isolated")


def plain_bytes(use_regex=False):
    return split.ByteLevel(add_prefix_space=False, use_regex=use_regex)


RULES = {
    "gpt-2": plain_bytes(use_regex=True),
    "smollm": split.Sequence([split.Digits(individual_digits=True), plain_bytes(use_regex=True)]),
    "qwen2": split.Sequence([isolated(QWEN2), plain_bytes()]),
    "llama-bpe": split.Sequence([isolated(LLAMA3), plain_bytes()]),
}


def trained(pre_tokenizer, ignore_merges=False):
    """A byte-level BPE of 330 tokens with one token that is special and one that is not."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    alphabet = split.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=328, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_tokens([AddedToken("<extra>", normalized=False)])
    return tokenizer


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_its_name(rule):
    told = json.loads(trained(RULES[rule], rule == "llama-bpe").to_str())
    assert splitting_rule(told, "here") == rule


def test_deepseek_coders_rule_has_its_name():
    steps = [*map(isolated, DEEPSEEK), split.Digits(individual_digits=True), plain_bytes()]
    told = json.loads(trained(split.Sequence(steps)).to_str())
    assert told["pre_tokenizer"]["pretokenizers"][0]["pattern"] == {"Regex": "[\r\n]"}  # the characters themselves
    assert splitting_rule(told, "here") == "deepseek-coder"
    told["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"[\r\n]"}
    assert splitting_rule(told, "here") == "deepseek-coder"


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        split.Whitespace(),
        split.Sequence([isolated(r"\p{L}+"), plain_bytes()]),
        split.ByteLevel(add_prefix_space=True),
        split.Sequence([split.Digits(individual_digits=False), plain_bytes(use_regex=True)]),
        split.Sequence([split.Split(Regex(QWEN2), "removed"), plain_bytes()]),
    ],
    ids=["words", "letters", "prefix", "digits", "removed"],
)
def test_a_rule_without_a_name_is_refused(pre_tokenizer):
    with pytest.raises(IncompatibleModelError, match=r"splitting rule[\s\S]*gpt-2, smollm"):
        splitting_rule(json.loads(trained(pre_tokenizer).to_str()), "here")


def test_what_the_name_would_not_tell_is_refused():
    lowered = trained(RULES["qwen2"])
    lowered.normalizer = normalizers.Lowercase()
    with pytest.raises(IncompatibleModelError, match="Lowercase"):
        splitting_rule(json.loads(lowered.to_str()), "here")
    lowered.normalizer = normalizers.NFC()
    assert splitting_rule(json.loads(lowered.to_str()), "here") == "qwen2"
    with pytest.raises(IncompatibleModelError):
        splitting_rule(json.loads(trained(RULES["llama-bpe"]).to_str()), "here")  # llama.cpp would ignore merges
    pieces = json.loads(trained(RULES["qwen2"]).to_str())
    pieces["model"]["byte_fallback"] = True
    with pytest.raises(IncompatibleModelError, match="byte fallback"):
        splitting_rule(pieces, "here")


def test_tokens_and_their_types(tmp_path):
    tokenizer = trained(RULES["smollm"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    found = read_tokenizer(tmp_path, size + 2)
    assert list(found.tokens[:size]) == [tokenizer.id_to_token(number) for number in range(size)]
    assert found.tokens[size:] == (f"[PAD{size}]", f"[PAD{size + 1}]")
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    found.add_to(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    merges = gguf.GGUFReader(tmp_path / "vocabulary.gguf").get_field("tokenizer.ggml.merges").contents()
    rebuilt = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(found.tokens)},
            merges=[tuple(merge.split(" ")) for merge in merges],
        )
    )
    rebuilt.pre_tokenizer = RULES[found.rule]
    assert rebuilt.encode(TEXT).ids == tokenizer.encode(TEXT).ids and len(merges) > 50
    assert (found.types[0], found.types[1], found.types[size - 1], found.types[size]) == (3, 1, 4, 5)
    with pytest.raises(IncompatibleModelError, match="more ids"):
        read_tokenizer(tmp_path, size - 1)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path, size)
