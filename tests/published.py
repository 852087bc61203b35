"""Configs of published models as they lie beside the weights, by hub id, and what their pages say of their sizes."""

from __future__ import annotations

from typing import Any

SANTACODER = {
    "model_type": "gpt_bigcode",
    "activation_function": "gelu_fast",
    "attention_softmax_in_fp32": True,
    "layer_norm_epsilon": 1e-05,
    "multi_query": True,
    "n_embd": 2048,
    "n_head": 16,
    "n_inner": 8192,
    "n_layer": 24,
    "n_positions": 2048,
    "vocab_size": 49280,
    "bos_token_id": 49152,
    "eos_token_id": 49152,
}
PHI_2 = {
    "model_type": "phi",
    "hidden_act": "gelu_new",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.4,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 51200,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
QWEN_CODER = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
}
SMOLLM2 = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "bigcode/gpt_bigcode-santacoder": SANTACODER,
    "microsoft/phi-2": PHI_2,
    "Qwen/Qwen2.5-Coder-0.5B": QWEN_CODER,
    "HuggingFaceTB/SmolLM2-135M": SMOLLM2,
}
PARAMETERS = {
    "bigcode/gpt_bigcode-santacoder": 1_124_886_528,
    "microsoft/phi-2": 2_779_683_840,
    "Qwen/Qwen2.5-Coder-0.5B": 494_032_768,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
}
