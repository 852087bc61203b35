"""Every export is read back by somebody else's reader and compared with its source, logit by logit, in float32.

Readers: for Mixtral, Qwen2-MoE and dense folders, transformers' own model classes; for our own form, transformers in a
process in which our package cannot be imported; for adapters, PEFT; for GGUF, the gguf package, whose dequantised
tensors are compared one by one, too. In: a composed model and what was written. Out: figures for the manifest, or a
ProofError.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from codechoir.compose.export.gguf_file import EXPERT_NAMES, Quantise
from codechoir.compose.export.source import Source
from codechoir.errors import ProofError, ToolMissingError
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.moe import Route, Routing, assemble, load_composed, packed_parts, router_name

EXACT_BOUND = 1e-4  # of the largest logit, for formats that keep every bit of the weights
# Of a tensor's largest weight: half a step of float16, half a step of q8_0 and its scale's rounding.
QUANTISED_BOUNDS: Mapping[Quantise, float] = {"f16": 2**-11, "q8_0": 1 / 254 + 2**-10}

TEXT = '''# -*- coding: utf-8 -*-
import math


def area(shapes: list[tuple[float, float]]) -> float:
    """The area of all shapes, 3 digits."""
    return round(sum(width * height for width, height in shapes if width > 0), 3)


public final class Queue<T> { private int size = 0; /* first in, first out */ }
const total = items.reduce((sum, item) => sum + item.price * 1.19, 0);
#include <vector>
std::vector<int> squares(int n) { std::vector<int> out; for (int i = 0; i < n; ++i) out.push_back(i * i); return out; }
'''

_ELSEWHERE = """
import sys
sys.modules["codechoir"] = None  # an import of it now fails
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
folder, given, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()
with torch.no_grad():
    logits = model(input_ids=load_file(given)["tokens"], use_cache=False).logits
save_file({"logits": logits.contiguous()}, out)
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far an export's logits are from its source's, on one text. `kl` is the mean divergence a token, in nats."""

    reader: str
    tokens: int
    max_abs_difference: float
    max_abs_logit: float
    argmax_agreement: float
    kl: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest logit."""
        return self.max_abs_difference / self.max_abs_logit


def tokens_of(source: Source, text: str) -> torch.Tensor:
    """(1, T) token ids of the text, at most 256 and no more than the model has positions for."""
    longest = min(256, int(source.dense_config.get("max_position_embeddings") or 256))
    ids = load_tokenizer(source.folder)(text, add_special_tokens=False)["input_ids"][:longest]
    return torch.tensor([ids])


@torch.no_grad()
def source_logits(source: Source, tokens: torch.Tensor, expert: str | None) -> torch.Tensor:
    """The composed model's own logits, routed by token, or all by one expert."""
    routing = Routing.TOKEN if expert is None else Routing.FIXED
    model = load_composed(source.folder, routing, source.top_k, torch.float32)
    if expert is not None:
        model.fix_routes([expert])
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


def compare_folder(out: Path, tokens: torch.Tensor, expected: torch.Tensor) -> Comparison:
    """A folder of a model class of transformers' own. Raises ProofError."""
    return _required(_compared(*_plain_logits(out, tokens), expected), EXACT_BOUND)


def compare_own(out: Path, tokens: torch.Tensor, expected: torch.Tensor) -> Comparison:
    """A folder with our modelling files, read where our package is not. Raises ProofError."""
    import transformers

    with tempfile.TemporaryDirectory(prefix="codechoir-export-") as scratch:
        given, found = Path(scratch) / "tokens.safetensors", Path(scratch) / "logits.safetensors"
        save_file({"tokens": tokens}, given)
        environment = os.environ | {"HF_MODULES_CACHE": scratch, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", _ELSEWHERE, str(out.resolve()), str(given), str(found)]
        done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            told = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ProofError("transformers cannot load the export by its modelling files", seen=f"{out}: {told}")
        logits = load_file(found)["logits"]
    reader = f"transformers {transformers.__version__} with the folder's modelling files, without codechoir"
    return _required(_compared(reader, logits, expected), EXACT_BOUND)


@torch.no_grad()
def compare_peft(out: Path, base: Any, tokens: torch.Tensor, expected: torch.Tensor, bound: float) -> Comparison:
    """An adapter, put on its base by PEFT. Raises ProofError, or ToolMissingError where PEFT is not installed."""
    try:
        import peft  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ToolMissingError(
            "PEFT reads an adapter back, and is not installed", next_step="pip install peft, or do not compare"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for a name that will be gone
        model = peft.PeftModel.from_pretrained(base, out).eval()
    logits = model(input_ids=tokens, use_cache=False).logits
    return _required(_compared(f"PEFT {peft.__version__}", logits, expected), bound)


@torch.no_grad()
def compare_gguf(
    file: Path, source: Source, tokens: torch.Tensor, expected: torch.Tensor, quantise: Quantise
) -> tuple[Comparison, dict[str, Any]]:
    """A GGUF file: each tensor within its format's rounding of the source's, and the logits. Raises ProofError."""
    held = _dequantised(file, source)
    worst, where = 0.0, ""
    for name, found in held.items():
        given = _of_source(source, name)
        apart = float((found - given).abs().max()) / max(float(given.abs().max()), 1e-30)
        if not apart <= worst:
            worst, where = apart, name
    bound = QUANTISED_BOUNDS[quantise]
    if not worst <= bound:
        raise ProofError(
            "a tensor of the GGUF file is not the source's", seen=f"{where}: {worst:.3g} apart", allowed=f"{bound:.3g}"
        )
    num_tensors = len(held)
    model = assemble(source.composed, held, Route(Routing.TOKEN, source.top_k), torch.float32)
    logits = model(input_ids=tokens, use_cache=False).logits
    comparison = _compared("the gguf package (dequantised weights)", logits, expected)
    tensors = {"compared": num_tensors, "max_relative_difference": worst, "tensor": where, "bound": bound}
    return _required(comparison, math.inf), tensors


def _plain_logits(out: Path, tokens: torch.Tensor) -> tuple[str, torch.Tensor]:
    import transformers

    model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    if any(loaded.values()):
        told = "; ".join(f"{what}: {sorted(map(str, names))[0]}" for what, names in loaded.items() if names)
        raise ProofError("transformers does not take the export's tensors as they are", seen=f"{out}: {told}")
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=tokens, use_cache=False).logits
    return f"transformers {transformers.__version__}, {type(model).__name__}", logits


def _dequantised(file: Path, source: Source) -> dict[str, torch.Tensor]:
    """The file's tensors in float32 by the names of our own form."""
    dense, experts = source.dense_config, {}
    heads = {"attn_q": int(dense["num_attention_heads"]), "attn_k": int(dense["num_key_value_heads"])}
    places = _places(source)
    held: dict[str, torch.Tensor] = {}
    for tensor in gguf.GGUFReader(file).tensors:
        values = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        kind = tensor.name.split(".")[-2]
        if kind in EXPERT_NAMES.values():
            experts[tensor.name] = values
            continue
        if kind in heads:  # (heads, pairs, 2 of a pair) -> (heads, 2 halves, pairs)
            rows = values.reshape(heads[kind], -1, 2, *values.shape[1:])
            values = rows.movedim(2, 1).flatten(0, 2)
        held[places[tensor.name]] = values
    for layer in source.layers:
        found = {
            f"{source.family.feed_forward_prefix(layer)}{getattr(source.family, role)}.weight": experts.pop(
                f"blk.{layer}.{exps}.weight"
            )
            for role, exps in EXPERT_NAMES.items()
        }
        for packed, parts in packed_parts(source.family, layer).items():
            held[packed] = torch.cat([found[part] for part in parts], dim=1)
    return held


def _places(source: Source) -> dict[str, str]:
    """GGUF's name -> ours, of what is not an expert's."""
    plain = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    places = {f"{short}.weight": f"{name}.weight" for short, name in plain.items()}
    inside = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    inside |= {f"attn_{short}": f"self_attn.{short[0]}_proj" for short in ("q", "k", "v", "output")}
    for layer in range(source.num_layers):
        for short, name in inside.items():
            for part in ("weight", "bias"):
                places[f"blk.{layer}.{short}.{part}"] = f"model.layers.{layer}.{name}.{part}"
        places[f"blk.{layer}.ffn_gate_inp.weight"] = router_name(source.family, layer)
    return places


def _of_source(source: Source, name: str) -> torch.Tensor:
    """A tensor of our own form, from whichever form the source has, in float32."""
    if name in source.shared:
        return source.read(name).to(torch.float32)
    for layer in source.layers:
        if name == router_name(source.family, layer):
            return source.router(layer).to(torch.float32)
        if parts := packed_parts(source.family, layer).get(name):
            rows = [[source.expert(index, part) for part in parts] for index in range(len(source.experts))]
            return torch.stack([torch.cat(row) for row in rows]).to(torch.float32)
    raise ProofError("the GGUF file holds a tensor that the source does not", seen=name)


def _compared(reader: str, found: torch.Tensor, expected: torch.Tensor) -> Comparison:
    found, expected = found.double(), expected.double()
    log_p, log_q = expected.log_softmax(-1), found.log_softmax(-1)
    return Comparison(
        reader,
        found.shape[1],
        float((found - expected).abs().max()),
        float(expected.abs().max()),
        float((found.argmax(-1) == expected.argmax(-1)).double().mean()),
        float((log_p.exp() * (log_p - log_q)).sum(-1).mean().clamp_min(0)),
    )


def _required(comparison: Comparison, bound: float) -> Comparison:
    if not comparison.relative <= bound:
        raise ProofError(
            "the export does not give its source's logits",
            seen=f"{comparison.max_abs_difference:.3g} apart, the largest logit is {comparison.max_abs_logit:.3g}",
            allowed=f"{bound} of the largest logit",
            next_step="this is a bug unless the folder was changed meanwhile; what was written has been removed",
        )
    return comparison
