"""A composed model as one GGUF file of llama.cpp's architecture `llama`, with Mixtral's expert tensors.

In: a composed model whose feed-forward is Mixtral's. Out: a plan (metadata, tensors, formats), written tensor by
tensor. Matrices are f16 or q8_0, vectors and routers float32. llama.cpp rotates neighbouring rows of a head where
transformers rotates its halves: rows of q and k, weights and biases, are put in that order. Biases of attention are
written where the model has them, so that Qwen2.5 fits, too. What the architecture does not compute is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, get_tensor_name_map, quantize
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import quant_shape_to_byte_shape

from codechoir.artifacts import disk_full_told
from codechoir.compose.export.gguf_tokenizer import GgufTokenizer, read_tokenizer
from codechoir.compose.export.source import Source
from codechoir.compose.export.targets import cannot
from codechoir.errors import InputError
from codechoir.model.checkpoint import TensorSpec

Quantise = Literal["f16", "q8_0"]
FAMILIES = ("llama", "mistral", "qwen2")
EXPERT_NAMES = {"gate": "ffn_gate_exps", "up": "ffn_up_exps", "down": "ffn_down_exps"}
_FORMATS: Mapping[Quantise, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_NARROW = (GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0)  # both scale in float16


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of the file; `parts` gives its values in order, an expert at a time where experts are stacked."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    parts: Callable[[], Iterator[torch.Tensor]]

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """The shape of its bytes."""
        return tuple(quant_shape_to_byte_shape(self.shape, self.kind))

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return prod(self.byte_shape)


@dataclass(frozen=True, slots=True)
class GgufPlan:
    """A file to be written."""

    source: Source
    tokenizer: GgufTokenizer
    quantise: Quantise
    tensors: tuple[GgufTensor, ...]

    @property
    def file(self) -> str:
        """The file's name."""
        return f"model-{self.quantise}.gguf"

    @property
    def num_bytes(self) -> int:
        """The size of its tensors."""
        return sum(tensor.num_bytes for tensor in self.tensors)

    def unquantised(self) -> list[str]:
        """Matrices in f16 though q8_0 was asked for: their rows are no multiple of its blocks of 32."""
        wanted = _FORMATS[self.quantise][0]
        return [each.name for each in self.tensors if each.kind in _NARROW and each.kind is not wanted]


def plan_gguf(source: Source, quantise: Quantise) -> GgufPlan:
    """Plans the file. Raises IncompatibleModelError naming what architecture `llama` cannot hold."""
    _require_computable(source)
    dense = source.dense_config
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, source.num_layers)
    heads = {"attn_q": int(dense["num_attention_heads"]), "attn_k": int(dense["num_key_value_heads"])}
    tensors = []
    for name, spec in source.shared.items():
        given = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if given is None:
            raise cannot(source, "gguf", f"architecture llama has no place for {name}")
        parts = partial(_shared, source, name, heads.get(given.split(".")[-2]))
        tensors.append(GgufTensor(given, spec.shape, _kind(spec, quantise), parts))
    for layer in source.layers:
        for role, exps in EXPERT_NAMES.items():
            dense_name = f"{source.family.feed_forward_prefix(layer)}{getattr(source.family, role)}.weight"
            spec = source.expert_spec(dense_name)
            shape = (len(source.experts), *spec.shape)
            parts = partial(_experts, source, dense_name)
            tensors.append(GgufTensor(f"blk.{layer}.{exps}.weight", shape, _kind(spec, quantise), parts))
        router = source.router_spec(layer).shape
        name = f"blk.{layer}.ffn_gate_inp.weight"
        tensors.append(GgufTensor(name, router, GGMLQuantizationType.F32, partial(_router, source, layer)))
    tokenizer = read_tokenizer(source.folder, int(dense["vocab_size"]))
    return GgufPlan(source, tokenizer, quantise, tuple(tensors))


def write_gguf(plan: GgufPlan, folder: Path, name: str) -> Path:
    """Writes the file, whole or not at all. Raises DiskFullError, or InputError for a weight beyond float16."""
    path = folder / plan.file
    partial_path = path.with_name(f".{path.name}.partial")
    writer = GGUFWriter(partial_path, "llama")
    try:
        with disk_full_told(path), closing(writer):  # what is buffered is written as it closes
            _add_metadata(plan, writer, name)
            for tensor in plan.tensors:
                stored = tensor.shape if tensor.kind is GGMLQuantizationType.F32 else tensor.byte_shape
                dtype = np.dtype(np.float32 if tensor.kind is GGMLQuantizationType.F32 else np.uint8)
                writer.add_tensor_info(tensor.name, stored, dtype, tensor.num_bytes, raw_dtype=tensor.kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in plan.tensors:
                writer.write_tensor_data(_Stream(tensor, path))
            writer.flush()
            os.fsync(writer.fout[0].fileno())
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)
    return path


@dataclass(frozen=True, slots=True)
class _Stream:
    """What the GGUF writer takes for an array: its values are made as they are written."""

    tensor: GgufTensor
    path: Path

    @property
    def nbytes(self) -> int:
        return self.tensor.num_bytes

    def tofile(self, out: IO[bytes]) -> None:
        for part in self.tensor.parts():
            values = part.to(torch.float32).numpy()
            if self.tensor.kind in _NARROW and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                raise InputError(
                    "a weight is too large for float16",
                    seen=f"{np.abs(values).max():.3g} for {self.tensor.name} in {self.path}",
                    allowed=f"up to {np.finfo(np.float16).max:.0f}",
                    next_step="export another format",
                )
            stored = np.ascontiguousarray(quantize(np.ascontiguousarray(values), self.tensor.kind))
            out.write(stored.data.cast("B"))  # numpy's own tofile does not tell the system's error of a full disk


def _require_computable(source: Source) -> None:
    """Refuses what architecture `llama` would load and compute otherwise."""
    family, dense = source.family, source.dense_config
    if family.model_type not in FAMILIES:
        raise cannot(source, "gguf", f"llama.cpp's llama does not compute what {family.model_type} does")
    if family.gate is None or family.has_bias or family.activation != "silu":
        biases = " with biases" if family.has_bias else ""
        raise cannot(source, "gguf", f"its feed-forward is {family.activation}{biases}, llama.cpp's SwiGLU has none")
    if missing := source.num_layers - len(source.layers):
        raise cannot(source, "gguf", f"{missing} of {source.num_layers} layers have no experts, llama.cpp's all have")
    window = dense.get("sliding_window") if dense.get("use_sliding_window", True) else None
    if window is not None and int(window) < int(dense["max_position_embeddings"]):
        raise cannot(source, "gguf", f"it attends to a window of {window} tokens, llama.cpp's llama to all")
    kind = _rope(source).get("rope_type", "default")
    if kind not in ("default", "linear"):
        raise cannot(source, "gguf", f"its rotary positions are scaled as {kind}; default and linear are written")
    if float(_rope(source).get("partial_rotary_factor", 1)) != 1:
        raise cannot(source, "gguf", "it rotates a part of each head, llama.cpp's llama all of it")


def _rope(source: Source) -> Mapping[str, Any]:
    return dict(source.dense_config.get("rope_parameters") or {})


def _add_metadata(plan: GgufPlan, writer: GGUFWriter, name: str) -> None:
    source = plan.source
    dense, rope = source.dense_config, _rope(source)
    head_dim = dense.get("head_dim") or int(dense["hidden_size"]) // int(dense["num_attention_heads"])
    writer.add_name(name)
    writer.add_file_type(_FORMATS[plan.quantise][1])
    writer.add_quantization_version(2)  # of ggml's block formats
    writer.add_vocab_size(int(dense["vocab_size"]))
    writer.add_context_length(int(dense["max_position_embeddings"]))
    writer.add_embedding_length(int(dense["hidden_size"]))
    writer.add_block_count(source.num_layers)
    writer.add_feed_forward_length(int(dense["intermediate_size"]))
    writer.add_head_count(int(dense["num_attention_heads"]))
    writer.add_head_count_kv(int(dense["num_key_value_heads"]))
    writer.add_key_length(int(head_dim))
    writer.add_value_length(int(head_dim))
    writer.add_rope_dimension_count(int(head_dim))
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if rope.get("rope_type") == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    writer.add_layer_norm_rms_eps(float(dense["rms_norm_eps"]))
    writer.add_expert_count(len(source.experts))
    writer.add_expert_used_count(source.top_k)
    plan.tokenizer.add_to(writer)


def _kind(spec: TensorSpec, quantise: Quantise) -> GGMLQuantizationType:
    """Vectors stay float32; rows that are no multiple of the format's blocks are f16, as llama.cpp's converter does."""
    if len(spec.shape) < 2:
        return GGMLQuantizationType.F32
    wanted = _FORMATS[quantise][0]
    return GGMLQuantizationType.F16 if spec.shape[-1] % GGML_QUANT_SIZES[wanted][0] else wanted


def _shared(source: Source, name: str, heads: int | None) -> Iterator[torch.Tensor]:
    values = source.read(name)
    yield values if heads is None else neighbouring(values, heads)


def _experts(source: Source, dense_name: str) -> Iterator[torch.Tensor]:
    for index in range(len(source.experts)):
        yield source.expert(index, dense_name)


def _router(source: Source, layer: int) -> Iterator[torch.Tensor]:
    yield source.router(layer)


def neighbouring(values: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of q or k, (heads * head_dim, ...), so that the two that are rotated together follow each other."""
    half = values.shape[0] // num_heads // 2
    return values.reshape(num_heads, 2, half, *values.shape[1:]).transpose(1, 2).reshape(values.shape)
