"""A chat with one model: what was said, and the request for the next answer.

The tokenizer's chat template writes the prompt. What no longer fits the context is forgotten, oldest turns first. Knows
nothing of terminals.
"""

from __future__ import annotations

from dataclasses import replace

from codechoir.errors import IncompatibleModelError, InputError
from codechoir.model.opening import OpenedModel
from codechoir.model.requests import Request


class Conversation:
    """The messages so far, of the user and the model in turn. Raises IncompatibleModelError without a template."""

    def __init__(self, model: OpenedModel) -> None:
        if model.tokenizer is None or not model.tokenizer.chat_template:
            raise IncompatibleModelError(
                "the model has no chat template",
                seen="a GGUF file" if model.tokenizer is None else "a tokenizer without one",
                next_step="give a folder of an instruct model, or use codechoir generate",
            )
        self._tokenizer, self._context = model.tokenizer, model.engine.abilities.context
        self.messages: list[dict[str, str]] = []
        self.num_forgotten = 0

    def ask(self, text: str, settings: Request) -> Request:
        """The request for an answer to `text`, with room for it. Raises InputError where `text` alone is too long.

        Nothing is remembered before `answered`, but what had to be forgotten is gone.
        """
        room = max(self._context - settings.max_tokens, self._context // 2)
        asked = {"role": "user", "content": text}
        prompt = self._prompt([*self.messages, asked])
        while self.messages and len(prompt) > room:
            del self.messages[:2]
            self.num_forgotten += 1
            prompt = self._prompt([*self.messages, asked])
        return replace(settings, prompt=tuple(prompt), cursor=text)

    def answered(self, text: str, answer: str) -> None:
        """Remembers a turn."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        """Forgets all."""
        self.messages.clear()
        self.num_forgotten = 0

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program of the model's maker; it raises what it likes
            raise InputError("the model's chat template refuses these messages", seen=error) from None
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids
