"""The config of a composed model: a dense decoder's whole config, and which of its layers hold experts.

Copied into each composed folder, so it needs transformers alone.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


class CodechoirMoeConfig(PreTrainedConfig):  # type: ignore[misc]
    """`dense_config`: the decoder's config, `model_type` included. `experts`: their names, in their order.

    `moe_layers`: the layers whose feed-forward module is a block of experts; the others keep theirs. `feed_forward`:
    where that module is and what it computes: `layers` and `module` (attribute paths), `gate` (null if ungated), `up`
    and `down` (its linear layers), `has_bias`, `activation`. `routing`: how a loaded model routes, see `Routing`.
    What this config lacks (vocabulary, widths, special tokens) is read from `dense_config`.
    """

    model_type = "codechoir_moe"
    sub_configs = {"dense_config": AutoConfig}  # noqa: RUF012
    has_no_defaults_at_init = True

    def __init__(
        self,
        dense_config: Any = None,
        experts: Any = (),
        moe_layers: Any = (),
        feed_forward: Any = None,
        num_experts_per_tok: int = 1,
        **kwargs: Any,
    ) -> None:
        routing = kwargs.pop("routing", "token")
        if isinstance(dense_config, dict):
            settings = dict(dense_config)
            dense_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        tied = kwargs.pop("tie_word_embeddings", getattr(dense_config, "tie_word_embeddings", False))
        for name in SPECIAL_TOKENS:  # generation reads them from here alone
            kwargs.setdefault(name, getattr(dense_config, name, None))
        super().__init__(tie_word_embeddings=tied, **kwargs)
        self.dense_config = dense_config
        self.experts = list(experts)
        self.moe_layers = list(moe_layers)
        self.feed_forward = dict(feed_forward or {})
        self.num_experts_per_tok = num_experts_per_tok
        self.routing = str(routing)

    def __getattr__(self, name: str) -> Any:
        dense = self.__dict__.get("dense_config")
        if dense is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(dense, name)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:  # noqa: ARG002
        """The decoder's config, which caches and attention masks are made by."""
        return self if self.__dict__.get("dense_config") is None else self.dense_config
