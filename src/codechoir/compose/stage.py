"""The compose stage: a trunk and its experts become one Mixture-of-Experts folder, routers fitted, proofs run.

Out: a checkpoint (Mixtral with per-expert tensor names wherever that can say the model, else our own model class with
its modelling file beside it), its tokenizer, the routing sidecar that `model/moe.py` reads, and the moments that token
routers can be solved from again. Weights pass through one tensor at a time. Knows nothing of training; any folders that
pass `plan` will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from codechoir.artifacts import UNFINISHED, Manifest, StageFolder
from codechoir.compose.config import ComposeConfig
from codechoir.compose.description import parameters
from codechoir.compose.moments import Moments, write_moments
from codechoir.compose.plan import Form, Output, Part, Plan, plan
from codechoir.compose.prompt_facts import prompt_router_facts
from codechoir.compose.prompt_routers import fit_prompt_router, unfitted_prompt_router, with_fallback
from codechoir.compose.proofs import prove
from codechoir.compose.provenance import made_of
from codechoir.compose.texts import RouterTexts, first_tokens
from codechoir.compose.token_routers import ExpertStates, TokenRouters, fit_token_routers
from codechoir.compose.weights import ReadAhead, Weights
from codechoir.console import say
from codechoir.documents import read_texts
from codechoir.errors import ProofError, UserError
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.device import compute_dtype
from codechoir.model.licences import copy_licence_files
from codechoir.model.moe import copy_modelling_files, write_routing
from codechoir.model.prompt_router import PromptRouter
from codechoir.model.streaming import plan_shards, write_streaming

VERSION = 5


@dataclass(frozen=True, slots=True)
class ComposeInputs:
    """The folders to compose, the documents that routers are fitted on, and the digests that stand for them.

    Without documents the routers stay as they are before any fit: all experts with equal weights for every token.
    """

    trunk: Path
    experts: Mapping[str, Path]
    documents: Path | None
    digests: Mapping[str, str]


def compose(config: ComposeConfig, inputs: ComposeInputs, out: Path) -> Manifest:
    """Composes into `out` and returns the manifest. Raises IncompatibleModelError or ProofError, naming the cause."""
    settings = config.model_dump(mode="json") | {"experts": list(inputs.experts)}
    folder = StageFolder(out, "compose", VERSION, settings, inputs.digests)
    if finished := folder.finished():
        return finished
    checked = plan(inputs.trunk, inputs.experts, config, fitted=inputs.documents is not None)
    folder.begin()
    facts: dict[str, Any] = {"experts": list(checked.experts), **parameters(checked)}
    facts["own_share"] = config.own_share
    facts["form"] = {"name": checked.form, "why": checked.why}
    facts["made_of"] = made_of(checked.trunk.folder, {name: each.folder for name, each in checked.experts.items()})
    if inputs.documents is None:
        say("compose: no documents, so no routers are fitted: every token goes to all experts alike")
        weights, texts = write_model(out, checked, None, config), random_texts(checked, config)
    else:
        tokenizer = load_tokenizer(inputs.trunk)
        read = {name: RouterTexts.read(inputs.documents, name, tokenizer, config) for name in inputs.experts}
        fit = _Fit(checked, read, tokenizer, config)
        weights = write_model(out, checked, fit, config)
        texts = {name: text.calibration[:1, : config.proof_tokens] for name, text in read.items()}
        held_out = {
            name: first_tokens(read_texts(inputs.documents, name, "held_out"), tokenizer, config.prefix_tokens)
            for name in inputs.experts
        }
        facts |= fit.facts(held_out)
    facts["drift"] = weights.summary()
    facts["special_tokens"] = checked.special_tokens
    if config.prove:
        texts.setdefault(GENERALIST, next(iter(texts.values())))
        say("compose: proving the fixed route and identical experts")
        try:
            facts["proofs"] = prove(checked, out, {name: texts[name] for name in checked.experts})
        except ProofError:
            (out / "config.json").unlink()  # what failed is no model that anybody could load by mistake
            raise
    return folder.finish(facts)


class _Fit:
    """Both routers: the prompt router at once, the token routers when the first of them is asked for.

    That is after all other tensors have been read and checked, so that a model that does not fit is told before the
    long part.
    """

    def __init__(self, checked: Plan, texts: Mapping[str, RouterTexts], tokenizer: Any, config: ComposeConfig) -> None:
        self._plan, self._texts, self._config = checked, texts, config
        vocabulary = checked.trunk.decoder.vocabulary
        prompts = {name: text.prompts for name, text in texts.items()}
        fitted = fit_prompt_router(prompts, tokenizer, vocabulary, config, len(checked.experts))
        self.prompt_router = with_fallback(fitted, list(checked.experts), config)
        self.states = ExpertStates(Weights(checked), compute_dtype("auto"))
        self._token_routers: TokenRouters | None = None

    def token_routers(self) -> TokenRouters:
        """The token routers, fitted on the first call."""
        if self._token_routers is None:
            self._token_routers = fit_token_routers(
                self.states,
                list(self._plan.experts),
                {name: text.fit for name, text in self._texts.items()},
                {name: text.calibration for name, text in self._texts.items()},
                self._config,
            )
        return self._token_routers

    def facts(self, held_out: Mapping[str, list[torch.Tensor]]) -> dict[str, Any]:
        """What the manifest tells of both."""
        routers = self.token_routers()
        return {
            "prompt_router": prompt_router_facts(self.prompt_router, held_out, list(self._plan.experts)),
            "token_router": {
                "accuracy_by_layer": list(routers.accuracies),
                "temperature_by_layer": list(routers.temperatures),
                "layers": list(self._plan.layers),
            },
        }


class Fit(Protocol):
    """Both routers of a composed model; the token routers are asked for last."""

    prompt_router: PromptRouter
    states: ExpertStates  # its weights are read, and so compared, once

    def token_routers(self) -> TokenRouters:
        """The token routers; without sums in them, no moments are written."""


def write_model(out: Path, checked: Plan, fit: Fit | None, config: ComposeConfig) -> Weights:
    """Writes the folder; what it was made of, and how far the shared weights had drifted, is returned."""
    weights = fit.states.weights if fit else Weights(checked)
    outputs = {output.tensor.name: output for output in checked.outputs}
    names = list(checked.experts)
    vocabulary = checked.trunk.decoder.vocabulary
    prompt_router = fit.prompt_router if fit else unfitted_prompt_router(vocabulary, len(names), config)
    write_routing(out, checked.trunk.config, names, prompt_router)
    copy_licence_files(checked.trunk.folder, out)
    if checked.form is Form.OWN:
        copy_modelling_files(out)
    shards = plan_shards([output.tensor for output in checked.outputs], config.shard_bytes)
    try:
        with ThreadPoolExecutor(1) as pool:
            ahead = ReadAhead(weights, [output for output in checked.outputs if output.part is not Part.ROUTER], pool)

            def read(name: str) -> torch.Tensor | Iterator[torch.Tensor]:
                output = outputs[name]
                return ahead.read(output) if output.part is not Part.ROUTER else _router(checked, fit, output)

            write_streaming(out, checked.config, shards, read, checked.trunk.folder)
        if fit and (routers := fit.token_routers()).sums:
            write_moments(out, Moments(checked.layers, routers.sums, routers.temperatures, routers.ridge))
    except UserError:
        for path in out.iterdir():  # a model that is refused leaves nothing but the note of its run
            if path.is_file() and path.name != UNFINISHED:
                path.unlink()
        raise
    return weights


def _router(checked: Plan, fit: Fit | None, output: Output) -> torch.Tensor:
    if fit is None:
        return torch.zeros(output.tensor.shape, dtype=output.tensor.dtype)
    routers = fit.token_routers()
    return routers.weights[checked.layers.index(output.layer)].cpu().to(output.tensor.dtype)


def random_texts(checked: Plan, config: ComposeConfig) -> dict[str, torch.Tensor]:
    """Token ids for the proofs where there is no text: (1, T) an expert."""
    vocabulary = checked.trunk.decoder.vocabulary
    generator = torch.Generator().manual_seed(config.seed)
    shape = (1, config.proof_tokens)
    return {name: torch.randint(vocabulary, shape, generator=generator) for name in checked.experts}
