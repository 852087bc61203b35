"""The benchmark's inputs: `python -m bench.train.inputs FOLDER KIND LENGTH COUNT`, made where they are missing.

Kinds: 135m (the embedded base), tiny (a random model), 1.3b (random weights at a Llama's shape of 1.3B). Left in the
folder: `base`, a model folder (a link), and `tokens.npy`: so many packed sequences of Python's own standard library.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import numpy as np
import numpy.typing as npt

SHAPE = {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 16}


def base_folder(kind: str, cache: Path) -> Path:
    """The model's folder."""
    from codechoir.artifacts import cache_dir
    from codechoir.model.config import EMBEDDED, RandomBase
    from codechoir.model.sources import prepare

    if kind == "tiny":
        return prepare(RandomBase(), cache).folder
    embedded = prepare(EMBEDDED, cache_dir()).folder
    return _random_large(embedded, cache / kind) if kind == "1.3b" else embedded


def _random_large(tokenizer: Path, folder: Path) -> Path:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    if not folder.exists():
        torch.manual_seed(0)
        config = LlamaConfig(**SHAPE, vocab_size=49152, max_position_embeddings=2048, tie_word_embeddings=False)
        config.dtype = torch.bfloat16
        LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def pack(base: Path, length: int, count: int) -> npt.NDArray[np.int64]:
    """Sequences (count, length) of the standard library's files, each after a separator, over and over."""
    from codechoir.model.checkpoint import load_tokenizer, separator_id

    tokenizer, found = load_tokenizer(base), []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [separator_id(tokenizer), *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]
        if len(found) >= length * count:
            break
    return np.resize(np.array(found, dtype=np.int64), (count, length))


def main() -> None:
    folder, kind, length, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    base = base_folder(kind, folder)
    (folder / "base").unlink(missing_ok=True)
    (folder / "base").symlink_to(base.resolve(), target_is_directory=True)
    np.save(folder / "tokens.npy", pack(base, length, count))


if __name__ == "__main__":
    main()
