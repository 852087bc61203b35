"""Whether two models are of one architecture and one vocabulary, by their configs and tokenizers alone.

What differs is named. Settings that change neither shapes nor what a forward pass computes may differ.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codechoir.errors import IncompatibleModelError, InputError
from codechoir.model.checkpoint import Checkpoint, full_config

# Of training, of reading the folder, or of generating: a forward pass at evaluation does not depend on them.
_MAY_DIFFER = {
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
_VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model")
_SPECIAL = (
    *("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"),
    "additional_special_tokens",
)


def compare_configs(full: Mapping[str, Any], expert: Checkpoint, language: str) -> None:
    """Compares with defaults spelled out (`full` is the base's config), since a config.json may leave them out."""
    same_type = expert.config.get("model_type") == full.get("model_type")
    theirs = full_config(expert) if same_type else expert.config
    keys = ["model_type"] if not same_type else sorted(full.keys() | theirs.keys())
    for key in keys:
        if key in _MAY_DIFFER or "dropout" in key or key.endswith("_pdrop") or full.get(key) == theirs.get(key):
            continue
        raise IncompatibleModelError(
            f"the {language} expert is of another architecture than the base",
            seen=f"{key} {theirs.get(key)} in {expert.folder}",
            allowed=f"{key} {full.get(key)}, as in the base",
        )


def compare_vocabularies(base: Path, expert: Path, language: str) -> None:
    """Refuses an expert whose tokenizer makes other numbers of a text than the base's, where both have one."""
    if all(_same_file(base / name, expert / name) for name in _VOCABULARY_FILES):
        return  # parsing them would take longer than all else that is compared
    ours, theirs = _vocabulary(base), _vocabulary(expert)
    for file, part in sorted(ours.keys() & theirs.keys()):
        if ours[file, part] != theirs[file, part]:
            raise IncompatibleModelError(
                f"the {language} expert has another vocabulary than the base",
                seen=f"{expert / file}: {part} {_first_difference(theirs[file, part], ours[file, part])}".strip(),
                allowed=f"the same as in {base / file}",
            )


def special_token_differences(base: Path, expert: Path) -> dict[str, dict[str, Any]]:
    """Special tokens that base and expert both name and name differently: key -> {base, expert}."""
    ours, theirs = _special_tokens(base), _special_tokens(expert)
    return {
        key: {"base": ours[key], "expert": theirs[key]}
        for key in _SPECIAL
        if key in ours and key in theirs and ours[key] != theirs[key]
    }


def _vocabulary(folder: Path) -> dict[tuple[str, str], Any]:
    """What decides on the numbers of a text, by file and part of it; padding and truncation do not."""
    found: dict[tuple[str, str], Any] = {}
    whole = _json(folder / "tokenizer.json")
    for part in ("model", "normalizer", "pre_tokenizer", "added_tokens"):
        if part in whole:
            found["tokenizer.json", part] = whole[part]
    if not whole:
        for name in _VOCABULARY_FILES[1:]:
            if (folder / name).exists():
                found[name, ""] = _json(folder / name) if name.endswith(".json") else (folder / name).read_bytes()
    return found


def _same_file(ours: Path, theirs: Path) -> bool:
    """Whether both are missing, or hold the same bytes."""
    if not ours.exists() or not theirs.exists():
        return ours.exists() == theirs.exists()
    return filecmp.cmp(ours, theirs, shallow=False)


def _first_difference(theirs: Any, ours: Any) -> str:
    """The first place, in words, where two values read from JSON differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        key = next(key for key in [*theirs, *ours] if theirs.get(key) != ours.get(key))
        return f"{key!r} {_first_difference(theirs.get(key), ours.get(key))}"
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        index = next(index for index, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        return f"{index}: {_first_difference(theirs[index], ours[index])}"
    if isinstance(theirs, list) and isinstance(ours, list):
        return f"has {len(theirs)} entries, the base {len(ours)}"
    return f"is {theirs!r:.60}, the base's {ours!r:.60}"


def _special_tokens(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, value in _json(folder / name).items():
            if key in _SPECIAL and value:
                found[key] = list(_texts(value)) if isinstance(value, list) else next(_texts([value]))
    return found


def _texts(tokens: list[Any]) -> Iterator[Any]:
    """Tokens are written as text, or as a mapping that holds it."""
    yield from (token.get("content") if isinstance(token, dict) else token for token in tokens)


def _json(path: Path) -> dict[str, Any]:
    """A JSON mapping; empty where there is no such file. Raises InputError where it is damaged."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("a tokenizer's file is damaged", seen=f"{path}: {error}") from None
    return value if isinstance(value, dict) else {}
