"""A tokenizer as GGUF tells it: tokens with their types, merges, special tokens, and the name of the splitting rule.

In: a model's folder with a tokenizer.json. Out: metadata in a GGUF writer. GGUF has no place for a splitting rule, only
for the name of one that llama.cpp has built in; a rule that is none of those is refused, since the file would load and
tokenize wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechoir.errors import IncompatibleModelError, InputError
from codechoir.records import read_json

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A splitting rule: the steps of a tokenizer.json before its bytes, whether bytes are split by GPT-2's pattern."""

    steps: tuple[str, ...]
    byte_pattern: bool
    ignores_merges: bool = False  # whole words are tokens whatever the merges say; llama.cpp ties it to the name


_RULES: Mapping[str, _Rule] = {
    "gpt-2": _Rule((), byte_pattern=True),
    "smollm": _Rule(("digits",), byte_pattern=True),
    "qwen2": _Rule((rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}",), byte_pattern=False),
    "llama-bpe": _Rule((rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",), byte_pattern=False, ignores_merges=True),
    "deepseek-coder": _Rule((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", "digits"), byte_pattern=False),
}


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """Tokens in the order of their ids, each with its type, and the splitting rule's name."""

    folder: Path
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    rule: str

    def add_to(self, writer: Any) -> None:
        """Adds the metadata to a GGUF writer."""
        from gguf import SpecialVocab

        writer.add_tokenizer_model("gpt2")  # llama.cpp's name of byte-level BPE
        writer.add_tokenizer_pre(self.rule)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        special = SpecialVocab(self.folder, load_merges=True, n_vocab=len(self.tokens))
        # llama.cpp does not load a file without merges; byte-level text never holds this character, U+2581.
        special.merges = special.merges or ["\u2581 \u2581"]
        # Left out, the splitting rule's name would decide whether a text begins with a token of its own.
        special.add_special_token.setdefault("bos", False)
        special.add_to_gguf(writer, quiet=True)


def read_tokenizer(folder: Path, vocabulary: int) -> GgufTokenizer:
    """The folder's tokenizer for a model of `vocabulary` ids. Raises InputError or IncompatibleModelError."""
    from gguf import TokenType

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError("the model folder has no tokenizer.json", seen=folder, next_step="save its fast tokenizer")
    told = read_json(path)
    rule = splitting_rule(told, path)
    tokens = {number: token for token, number in told["model"]["vocab"].items()}
    types = dict.fromkeys(tokens, TokenType.NORMAL)
    for added in told.get("added_tokens") or ():
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED
    if too_many := max(tokens) - vocabulary + 1 if max(tokens) >= vocabulary else 0:
        raise IncompatibleModelError(
            "the tokenizer has more ids than the model",
            seen=f"{max(tokens)} in {path}, {too_many} too many",
            allowed=f"ids below {vocabulary}",
        )
    return GgufTokenizer(
        folder,
        tuple(tokens.get(number, f"[PAD{number}]") for number in range(vocabulary)),
        tuple(int(types.get(number, TokenType.UNUSED)) for number in range(vocabulary)),
        rule,
    )


def splitting_rule(told: Mapping[str, Any], where: object) -> str:
    """llama.cpp's name of a tokenizer.json's splitting rule. Raises IncompatibleModelError where it has none."""
    model = told.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = f"{model.get('type')} with byte fallback" if model.get("byte_fallback") else str(model.get("type"))
        raise _unknown(kind, where)
    # llama.cpp has no normalisation; texts that are not in form C tokenize otherwise there, as with its own converter.
    if (told.get("normalizer") or {}).get("type", "NFC") != "NFC":
        raise _unknown(f"the normalizer {told['normalizer']['type']}", where)
    found = _rule_of(told.get("pre_tokenizer") or {}, bool(model.get("ignore_merges")))
    names = [name for name, rule in _RULES.items() if rule == found]
    if not names:
        raise _unknown(str(told.get("pre_tokenizer"))[:300], where)
    return names[0]


def _rule_of(pre_tokenizer: Mapping[str, Any], ignores_merges: bool) -> _Rule | None:
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    *steps, last = parts or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    told = tuple(_step(step) for step in steps)
    return _Rule(told, bool(last.get("use_regex", True)), ignores_merges)


def _step(step: Mapping[str, Any]) -> str:
    """One step before the bytes: `digits`, a pattern, or what no rule has."""
    if step.get("type") == "Digits" and step.get("individual_digits"):
        return "digits"
    pattern = (step.get("pattern") or {}).get("Regex")
    plain = step.get("type") == "Split" and step.get("behavior") == "Isolated" and not step.get("invert")
    if not plain or not pattern:
        return f"unknown: {step}"
    return str(pattern).replace("\r", r"\r").replace("\n", r"\n")  # some write the characters, some their escapes


def _unknown(seen: str, where: object) -> IncompatibleModelError:
    return IncompatibleModelError(
        "the tokenizer's splitting rule is none that llama.cpp has a name for",
        seen=f"{seen} in {where}",
        allowed=f"byte-level BPE split as {', '.join(_RULES)}",
        next_step="export another format",
    )
