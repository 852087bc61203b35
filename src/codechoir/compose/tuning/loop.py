"""The steps of tuning, from a loaded model to its best weights on disk. Resumable at any step.

In: the running model, which of its parameters move, and texts. Out: figures, and the weights of the best step in a file
beside the saved state. A step reads the same number of sequences of each language. The best step is that of the lowest
validation loss, step 0 included; validation runs on the weights as they would be written. Knows nothing of folders'
forms: `writing.py` does.

Shapes: L layers with experts, E experts, B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codechoir.artifacts import StageFolder
from codechoir.compose.config import TuneConfig
from codechoir.compose.tuning.measure import NextTokenLoss, Validation, validate
from codechoir.compose.tuning.objective import cross_entropy, divergence, moved_bias, switch_loss, z_loss
from codechoir.compose.tuning.texts import Sequences, TuneTexts
from codechoir.compose.tuning.watch import Watch
from codechoir.console import Progress
from codechoir.errors import InputError
from codechoir.model.checkpoint import load_tensors, save_tensors
from codechoir.model.compilation import compile_forward
from codechoir.model.moe import ExpertBlock, Routing, is_router
from codechoir.model.optimiser import MasterAdamW, learning_rate
from codechoir.model.packed_attention import keep_documents_apart

RESUME = "resume.safetensors"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tuned: a model on its device, which of its parameters move, and the formats that these are written in."""

    model: Any
    loss_of: NextTokenLoss
    parameters: Mapping[str, nn.Parameter]
    formats: Mapping[str, torch.dtype]
    top_k: int
    compiled: bool = False  # whether what stands beside experts is, where this machine can


@dataclass(slots=True)
class Outcome:
    """Where tuning stands: what the saved state holds beside the optimiser's."""

    before: dict[str, Validation] = field(default_factory=dict)  # by routing, at step 0
    best: Validation | None = None  # token routing at the best step
    best_step: int = 0
    losses: list[list[float]] = field(default_factory=list)  # of each step: the objective, cross-entropy
    curve: list[list[float]] = field(default_factory=list)  # step, validation loss
    seconds: float = 0.0  # that the steps took

    def best_file(self, folder: Path) -> Path:
        """The best step's weights; there is no such file for step 0, whose weights are the source's."""
        return folder / f"best-{self.best_step:06}.safetensors"


class Loop:
    """Tunes a subject, which keeps packed documents apart from then on.

    Only its blocks of experts are ever in training mode, so there is no dropout.
    """

    def __init__(self, subject: Subject, texts: TuneTexts, config: TuneConfig, folder: StageFolder) -> None:
        self._subject, self._texts, self._config, self._folder = subject, texts, config, folder
        self._model, self._watch, self._loss_of = subject.model, Watch(subject.model), subject.loss_of
        if texts.are_packed:
            self._model.set_routing(Routing.UNIFORM)  # which no rounding turns
            keep_documents_apart(self._model)
        if subject.compiled:
            compile_forward(_beside_experts(self._model), self._model.device)
        for parameter in subject.parameters.values():
            parameter.requires_grad = True
        self._optimiser = _optimiser(subject, config)
        self._bias_LE = torch.zeros(len(self._watch.blocks), len(self._model.experts))

    def run(self) -> Outcome:
        """All steps that are not yet done. Raises InputError naming the step at which a loss is not finite."""
        config, resume, saved = self._config, self._folder.path / RESUME, time.monotonic()
        with _repeatable(self._model.device):
            outcome = self._restored(resume) if resume.exists() else self._first()
            tokens_a_step = len(self._texts.languages) * config.sequences_per_language * config.sequence_length
            label, done = f"tune {config.what}", len(outcome.losses) * tokens_a_step
            with Progress(label, config.steps * tokens_a_step, "tokens", done=done) as bar:
                for step in range(len(outcome.losses), config.steps):
                    began = time.monotonic()
                    objective, loss = self._step(step)
                    outcome.losses.append([round(objective, 5), round(loss, 5)])
                    outcome.seconds += time.monotonic() - began
                    if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
                        self._validated(outcome, step + 1)
                    best = outcome.best.mean if outcome.best else math.nan
                    bar.advance(tokens_a_step, f"loss {loss:.3f}, best validation {best:.4f}")
                    if time.monotonic() - saved >= config.checkpoint_seconds and step + 1 < config.steps:
                        self._save(resume, outcome)
                        saved = time.monotonic()
        return outcome

    def _first(self) -> Outcome:
        """Step 0: the source under token routing and its two controls."""
        before = {
            routing.value: validate(self._loss_of, self._watch, routing, self._subject.top_k, self._texts.validation)
            for routing in (Routing.UNIFORM, Routing.FIXED, Routing.TOKEN)
        }
        best = before[Routing.TOKEN]
        self._check(best.mean, 0.0, "the validation before step 0")
        return Outcome(before, best, curve=[[0, round(best.mean, 5)]])

    def _step(self, step: int) -> tuple[float, float]:
        """One update; returns the objective and its cross-entropy, the mean over the step's sequences."""
        config, objective, loss = self._config, 0.0, 0.0
        counts_LE = torch.zeros_like(self._bias_LE)
        first = step * config.sequences_per_language
        for start in range(0, config.sequences_per_language, config.sequences_per_forward):
            stop = min(start + config.sequences_per_forward, config.sequences_per_language)
            share = (stop - start) / config.sequences_per_language
            batch = self._texts.batch(first + start, first + stop).to(self._model.device)
            entropy, total = self._objective(batch)
            torch.autograd.backward(total * share)
            objective += float(total.detach()) * share
            loss += float(entropy.detach()) * share
            if config.balance == "bias":
                counts_LE += self._watch.counts()
        norm = self._optimiser.step(learning_rate(step, config.steps, config))
        self._check(objective, norm, f"step {step}")
        if config.balance == "bias":
            self._bias_LE = moved_bias(self._bias_LE, counts_LE, config.balance_step)
        return objective, loss

    def _objective(self, batch: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch's cross-entropy, and the whole objective. It has as many rows of each language, one after another."""
        config, weight = self._config, self._config.distillation_weight
        teacher_BTV = self._teacher(batch) if weight else None
        self._model.set_routing(Routing.TOKEN, self._subject.top_k)
        with self._learning(), self._watch.watching():
            if teacher_BTV is None:
                entropy = total = self._loss_of(batch)
            else:
                logits_BTV, targets_BT = self._model(**batch.told(self._model)).logits, batch.targets()
                entropy = cross_entropy(logits_BTV, targets_BT)
                total = entropy + weight * divergence(teacher_BTV, logits_BTV, targets_BT)
        if config.z_loss and config.moves_routers:
            total = total + config.z_loss * z_loss(torch.stack(self._watch.logits))
        if config.balance == "switch":
            balance = switch_loss(torch.stack(self._watch.logits), torch.stack(self._watch.chosen))
            total = total + config.balance_weight * balance
        return entropy, total

    @torch.no_grad()
    def _teacher(self, batch: Sequences) -> torch.Tensor:
        """Each language's own expert's logits."""
        self._model.set_routing(Routing.FIXED)
        self._model.fix_routes(self._texts.languages)
        logits_BTV: torch.Tensor = self._model(**batch.told(self._model)).logits
        return logits_BTV

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Blocks of experts route as in training, with the bias of the choice."""
        for block, bias_E in zip(self._watch.blocks, self._bias_LE, strict=True):
            block.train()
            block.choice_bias_E = bias_E.to(self._model.device) if self._config.balance == "bias" else None
        try:
            yield
        finally:
            for block in self._watch.blocks:
                block.eval()

    def _validated(self, outcome: Outcome, step: int) -> None:
        """Validates, and keeps the weights where they are the best so far."""
        with self._as_written() as written:
            found = validate(self._loss_of, self._watch, Routing.TOKEN, self._subject.top_k, self._texts.validation)
            self._check(found.mean, 0.0, f"the validation after step {step - 1}")
            outcome.curve.append([step, round(found.mean, 5)])
            assert outcome.best is not None
            if found.mean < outcome.best.mean:
                outcome.best, outcome.best_step = found, step
                save_tensors(outcome.best_file(self._folder.path), written, {"format": "pt"})

    @contextmanager
    def _as_written(self) -> Iterator[dict[str, torch.Tensor]]:
        """The weights rounded to the formats that they are written in, and as tensors of these."""
        kept = {name: parameter.detach().clone() for name, parameter in self._subject.parameters.items()}
        written = {name: kept[name].to(self._subject.formats[name]) for name in kept}
        set_weights(self._subject, written)
        try:
            yield written
        finally:
            set_weights(self._subject, kept)

    def _check(self, loss: float, norm: float, when: str) -> None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise InputError(
                "tuning has left the finite numbers",
                seen=f"loss {loss}, gradient norm {norm} at {when}",
                next_step="lower learning_rate",
            )

    def _save(self, resume: Path, outcome: Outcome) -> None:
        progress = {
            "before": {name: _plain(each) for name, each in outcome.before.items()},
            "best": _plain(outcome.best),
            "best_step": outcome.best_step,
            "losses": outcome.losses,
            "curve": outcome.curve,
            "seconds": outcome.seconds,
            "bias": self._bias_LE.tolist(),
        }
        save_tensors(resume, dict(self._optimiser.state()), {"progress": json.dumps(progress)})
        self._folder.save_time()
        for path in self._folder.path.glob("best-*.safetensors"):
            if path != outcome.best_file(self._folder.path):
                path.unlink()

    def _restored(self, resume: Path) -> Outcome:
        tensors, metadata = load_tensors(resume)
        self._optimiser.restore(tensors)
        progress = json.loads(metadata["progress"])
        self._bias_LE = torch.tensor(progress["bias"])
        return Outcome(
            {name: _validation(each) for name, each in progress["before"].items()},
            _validation(progress["best"]),
            progress["best_step"],
            progress["losses"],
            progress["curve"],
            progress["seconds"],
        )


def _optimiser(subject: Subject, config: TuneConfig) -> MasterAdamW:
    if config.own_rate is None:
        return MasterAdamW(subject.parameters, config)
    packed = [name for name in subject.parameters if not is_router(name)]
    return MasterAdamW(subject.parameters, config, packed=packed, own_rate=config.own_rate)


def _beside_experts(model: Any) -> Iterator[nn.Module]:
    """The layers' parts, such as attention and norms, but for blocks of experts, whose products vary in size."""
    for layer in model.dense.get_submodule(model.config.feed_forward["layers"]):
        for part in layer.children():
            if not any(isinstance(module, ExpertBlock) for module in part.modules()):
                yield part


@torch.no_grad()
def set_weights(subject: Subject, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies weights into the parameters that move."""
    for name, parameter in subject.parameters.items():
        parameter.copy_(weights[name])


def best_weights(outcome: Outcome, folder: Path) -> dict[str, torch.Tensor]:
    """The best step's weights, in the formats that they are written in; none where that is step 0."""
    return load_tensors(outcome.best_file(folder))[0] if outcome.best_step else {}


def remove_state(folder: Path) -> None:
    """Removes what a resumed run would have read."""
    for path in (folder / RESUME, *folder.glob("best-*.safetensors")):
        path.unlink(missing_ok=True)


def _plain(validation: Validation | None) -> dict[str, Any]:
    assert validation is not None
    counts_LE = validation.counts_LE
    return {"losses": dict(validation.losses), "counts": None if counts_LE is None else counts_LE.tolist()}


def _validation(plain: Mapping[str, Any]) -> Validation:
    counts = plain["counts"]
    return Validation(plain["losses"], None if counts is None else torch.tensor(counts))


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """On the CPU, sums in one order whatever the threads: gradients of gathered tokens are else added as they come."""
    settings: Any = torch.utils.deterministic
    before, filled = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        settings.fill_uninitialized_memory = False  # a tenth of the time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = filled
