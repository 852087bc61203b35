"""Ways to train: which weights of a model move, and what is written of them.

In: a model folder and a way. Out: the model ready to train, all else frozen, and from its trained weights a folder: a
whole model, or for LoRA a PEFT adapter of the folder that the branch started from. Works by a family's places, so for
every decoder that can be composed.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from codechoir.errors import ConfigError, ToolMissingError
from codechoir.model.checkpoint import load_model, open_checkpoint, save_tensors, write_checkpoint
from codechoir.model.families import Family, family_of
from codechoir.model.infilling_tokens import new_rows
from codechoir.model.licences import carry_licence
from codechoir.model.names import names_of
from codechoir.train.config import TrainConfig, Way
from codechoir.train.new_rows import TrainedRows

SAVED_DTYPE = torch.bfloat16
_NEW_ROWS = "new_rows"  # what their names among the trained weights begin with
_ADAPTER = "default"  # PEFT's name of the only adapter


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in training."""

    start: Path
    way: Way
    family: Family
    model: Any
    new_rows: TrainedRows | None = None

    @property
    def layers(self) -> nn.ModuleList:
        """Its decoder layers."""
        layers = self.model.get_submodule(self.family.layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that move, by the model class's names."""
        found = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        rows = self.new_rows.named_parameters(_NEW_ROWS) if self.new_rows is not None else ()
        return found | dict(rows)


def load_subject(start: Path, way: Way, config: TrainConfig, dtype: torch.dtype) -> Subject:
    """The model of the folder `start` on the CPU, without dropout, all weights frozen but those that `way` trains.

    Raises as `check_way` does.
    """
    family = family_of(open_checkpoint(start).config, start)
    model = load_model(start, dtype).train()
    _stop_dropout(model)
    model.requires_grad_(False)
    check_way(way, config, len(model.get_submodule(family.layers)))
    if way == "lora":
        _add_adapter(model, family, config)
    elif way == "last-layers":
        nn.ModuleList(model.get_submodule(family.layers)[-config.last_layers :]).requires_grad_(True)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = way == "all" or family.is_feed_forward(name)
    if config.gradient_checkpointing:
        for layer in model.get_submodule(family.layers):
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    new = new_rows(start)
    return Subject(start, way, family, model, TrainedRows(model, new) if new and way != "all" else None)


def _stop_dropout(model: nn.Module) -> None:
    """Sets every probability of dropout to 0, in modules and the configs that they go by.

    What is dropped would hang on how a step is parted into forward passes and processes.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for owner in (module, getattr(module, "config", None)):
            for name, value in list(getattr(owner, "__dict__", {}).items()):
                if "drop" in name and isinstance(value, float):
                    setattr(owner, name, 0.0)


def check_way(way: Way, config: TrainConfig, num_layers: int) -> None:
    """Raises ToolMissingError for LoRA without PEFT, ConfigError where more layers are to be trained than there are."""
    if way == "lora" and importlib.util.find_spec("peft") is None:
        raise ToolMissingError(
            "LoRA is trained with PEFT, which is not installed", next_step="pip install 'codechoir[peft]'"
        )
    if way == "last-layers" and config.last_layers > num_layers:
        raise ConfigError(
            "more layers are to be trained than there are",
            seen=f"train.last_layers {config.last_layers}",
            allowed=f"1 to {num_layers}",
        )


def _add_adapter(model: Any, family: Family, config: TrainConfig) -> None:
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inject_adapter_in_model(_lora_config(family, config, None), model, _ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".lora_" in name
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype)


def _lora_config(family: Family, config: TrainConfig, base: str | None) -> Any:
    from peft import LoraConfig

    # A whole path: a bare module name such as c_proj is attention's, too, in some families.
    modules = "|".join(family.modules)
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules=rf"{re.escape(family.layers)}\.\d+\.{re.escape(family.feed_forward)}\.({modules})",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )


def write_result(subject: Subject, masters: Mapping[str, torch.Tensor], config: TrainConfig, folder: Path) -> None:
    """Writes the model with its trained weights (float32, by the class's names) into `folder`."""
    carry_licence(subject.start, folder)
    if subject.way == "lora":
        _write_adapter(subject, masters, config, folder)
        return
    source, names = open_checkpoint(subject.start), names_of(subject.model)

    def tensor(stored: str, held: torch.Tensor) -> torch.Tensor:
        name = names.of(stored)
        master = masters.get(names.tied.get(name, name))
        if master is not None:
            return master.to("cpu", SAVED_DTYPE)
        return _with_new_rows(subject, name, held, masters)

    tensors = {stored: tensor(stored, held) for stored, held in source.items()}
    settings = {key: value for key, value in source.config.items() if key != "torch_dtype"}  # dtype's older name
    write_checkpoint(folder, settings | {"dtype": "bfloat16"}, tensors, tokenizer=subject.start)


def _with_new_rows(
    subject: Subject, name: str, held: torch.Tensor, masters: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """A frozen tensor with the rows of it that were trained."""
    if subject.new_rows is None:
        return held
    embedding, head = subject.model.get_input_embeddings(), subject.model.get_output_embeddings()
    parameters = dict(subject.model.named_parameters(remove_duplicate=False))
    rows = subject.new_rows.rows
    for part, weight in (("input_KD", embedding.weight), ("output_KD", head.weight), ("bias_K", head.bias)):
        trained = masters.get(f"{_NEW_ROWS}.{part}")
        if trained is not None and parameters.get(name) is weight:
            held = held.clone()
            held[rows.start : rows.stop] = trained.to("cpu", held.dtype)
    return held


def _write_adapter(subject: Subject, masters: Mapping[str, torch.Tensor], config: TrainConfig, folder: Path) -> None:
    tensors = {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": master.to("cpu", torch.float32)
        for name, master in masters.items()
    }
    save_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})
    base = os.path.relpath(subject.start, folder)
    _lora_config(subject.family, config, base).save_pretrained(folder)
