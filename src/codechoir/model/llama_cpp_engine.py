"""The same engine over llama.cpp: a GGUF file that `codechoir export --format gguf` or anybody else wrote.

Needs the optional extra `llama-cpp-python`. llama.cpp computes the logits; tokens are drawn, stopped and told by the
same code as everywhere. Sequences run one at a time, as the package's interface has one. The file's own routers choose
experts token by token, out of sight: no prompt routing, no fixed routes, no shares to tell.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codechoir.errors import InputError, ToolMissingError
from codechoir.model.decoding import Vocabulary
from codechoir.model.requests import Abilities, Request
from codechoir.model.scheduler import ContinuousEngine
from codechoir.model.sequences import Progress, SequenceInProgress, advance, begin

LACKS = (
    "llama.cpp routes by prompt for no model",
    "llama.cpp cannot fix the route to an expert: export that expert alone (--format dense), or serve the model folder",
    "llama.cpp does not tell which experts a token went to",
)


def open_gguf(path: Path, context: int = 0, num_threads: int | None = None) -> ContinuousEngine:
    """An engine over a GGUF file. `context` in tokens, 0 for the model's own. Raises ToolMissingError, InputError."""
    return ContinuousEngine(LlamaCppBackend(path, context, num_threads or os.cpu_count() or 1), max_sequences=1)


class LlamaCppBackend:
    """A `Backend` over llama.cpp."""

    def __init__(self, path: Path, context: int, num_threads: int) -> None:
        try:
            import llama_cpp
        except ImportError as error:
            raise ToolMissingError(
                "GGUF files are run by llama.cpp, which is not installed",
                seen=str(error),
                next_step='pip install "codechoir[llama-cpp]"',
            ) from None
        if not path.is_file():
            raise InputError("no such GGUF file", seen=path)
        self._library: Any = llama_cpp
        try:
            self._llama: Any = llama_cpp.Llama(
                str(path), n_ctx=context, n_threads=num_threads, n_threads_batch=num_threads, verbose=False
            )
        except ValueError as error:
            raise InputError("llama.cpp cannot load the file", seen=f"{path}: {error}") from None
        self.vocabulary = Vocabulary(_GgufTokenizer(self._llama))
        vocabulary, bound = self._llama.n_vocab(), self._llama.n_ctx()
        self.abilities = Abilities((), (), bound, vocabulary, traces=False, max_logprobs=20, lacks=LACKS)

    def begin(self, request: Request) -> SequenceInProgress:
        """As `sequences.begin`, for a model whose routes are its own."""
        return begin(request, self.vocabulary, None)

    def batch(self, sequences: Sequence[SequenceInProgress]) -> _One:
        """One sequence."""
        return _One(self._llama, self._library, self.vocabulary, list(sequences))


class _One:
    """A `Batch` of one sequence: llama.cpp's context holds no other."""

    def __init__(self, llama: Any, library: Any, vocabulary: Vocabulary, sequences: list[SequenceInProgress]) -> None:
        assert len(sequences) == 1
        self._llama, self._library, self._vocabulary, self.sequences = llama, library, vocabulary, sequences
        self._unread = sequences[0].prompt
        llama.reset()

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def num_unread(self) -> int:
        """Tokens of the prompt that the model has not read."""
        return len(self._unread)

    def read(self, num_columns: int) -> list[Progress]:
        """Feeds the next tokens of the prompt; the last give the first new token."""
        self._llama.eval(self._unread[:num_columns])
        self._unread = self._unread[num_columns:]
        return [] if self._unread else self._advance()

    def step(self) -> list[Progress]:
        """Feeds the last token and draws the next."""
        self._llama.eval([self.sequences[0].last])
        return self._advance()

    def join(self, other: _One) -> None:
        """Takes the place of a batch whose sequence has left."""
        assert not self.sequences
        self.__dict__.update(other.__dict__)

    def drop(self, sequences: Sequence[SequenceInProgress]) -> None:
        """Frees the place."""
        self.sequences = [sequence for sequence in self.sequences if sequence not in sequences]

    def shares(self) -> list[dict[str, float]]:
        """None that could be told."""
        return [{} for _ in self.sequences]

    def _advance(self) -> list[Progress]:
        pointer = self._library.llama_get_logits_ith(self._llama.ctx, -1)
        logits_1V = torch.tensor(pointer[: self._llama.n_vocab()], dtype=torch.float32)[None]
        done = [replace(progress, shares={}) for progress in advance(self.sequences, logits_1V, self._vocabulary, [()])]
        self.drop([progress.sequence for progress in done if progress.finish or progress.error])
        return done


class _GgufTokenizer:
    """The tokenizer within a GGUF file, with as much of a Hugging Face tokenizer as `Vocabulary` asks for."""

    def __init__(self, llama: Any) -> None:
        self._llama = llama
        self.eos_token_id: int = llama.token_eos()
        self._pieces: list[str] = [llama._model.token_get_text(token) for token in range(llama.n_vocab())]
        self._ids = {piece: token for token, piece in enumerate(self._pieces)}

    def __len__(self) -> int:
        return len(self._pieces)

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(self._llama.tokenize(text.encode(), add_bos=False, special=True))}

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False, **_: Any) -> str:
        """The tokens' bytes as text, U+FFFD for what is no character."""
        raw: bytes = self._llama.detokenize(list(tokens), special=not skip_special_tokens)
        return raw.decode(errors="replace")

    def get_vocab(self) -> dict[str, int]:
        """Spelling -> id."""
        return self._ids

    def convert_ids_to_tokens(self, tokens: Sequence[int]) -> list[str]:
        """The vocabulary's spelling of tokens."""
        return [self._pieces[token] for token in tokens]
