"""Both routers of a composed model whose experts change, fitted again from what is at hand.

Token routers need, for every language, its stored moments or its documents: then one solve gives them all, and another
language's sums are simply in it or not. Where a language has neither, the rows that there are stay as they are, and a
new expert's is zeros. The prompt router has no moments: it is refitted where there are documents of all languages;
else a dropped expert's column goes (what is left are the fitted probabilities, given that it is none of the dropped
one's), and a new expert's column is zeros, so that hardly any prompt is sent to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codechoir.compose.config import ComposeConfig
from codechoir.compose.moments import Sums, read_moments, solve
from codechoir.compose.plan import Plan
from codechoir.compose.prompt_facts import prompt_router_facts
from codechoir.compose.prompt_routers import fit_prompt_router, with_fallback
from codechoir.compose.retention import NamedRouters
from codechoir.compose.texts import RouterTexts, first_tokens
from codechoir.compose.token_routers import Calibration, ExpertStates, TokenRouters, calibrate, cooled, gather_sums
from codechoir.compose.views import ComposedView
from codechoir.compose.weights import Weights
from codechoir.console import say
from codechoir.documents import read_texts
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import load_tokenizer
from codechoir.model.device import compute_dtype
from codechoir.model.prompt_router import Fallback, PromptRouter


class Refit:
    """The routers of the changed model; the token routers are solved when they are first asked for."""

    def __init__(
        self, view: ComposedView, checked: Plan, texts: Mapping[str, RouterTexts], config: ComposeConfig
    ) -> None:
        self._plan, self._texts, self._config = checked, texts, config
        self._stored = read_moments(view.folder, checked.trunk.decoder.width)
        self._tokenizer = load_tokenizer(view.folder) if texts else None
        self.states = ExpertStates(Weights(checked), compute_dtype("auto"))
        weights = [view.router(layer).float() for layer in checked.layers]
        self.before = NamedRouters(view.composed.experts, weights)
        self._prompt_router_before = view.composed.prompt_router
        self.prompt_router, self._prompt_how = self._new_prompt_router()
        self._token_routers: TokenRouters | None = None
        self._token_how = ""
        self._by_language: Mapping[str, Any] = {}

    def after(self) -> NamedRouters:
        """The new token routers, as written."""
        dtype = self._plan.outputs[-1].tensor.dtype
        written = [weight.to(dtype).float() for weight in self.token_routers().weights]
        return NamedRouters(tuple(self._plan.experts), written)

    def token_routers(self) -> TokenRouters:
        """The new token routers, fitted on the first call."""
        if self._token_routers is None:
            sums = self._sums()
            missing = [name for name in self._plan.experts if name not in sums and name != GENERALIST]
            unsolved = [name for name in missing if self.before.knows(name)]
            self._token_routers = self._kept(unsolved, missing) if unsolved or not sums else self._solved(sums, missing)
            say(f"expert: token routers: {self._token_how}")
        return self._token_routers

    def _sums(self) -> dict[str, Sums]:
        """Each language's moments: the stored ones, else from its documents."""
        experts = list(self._plan.experts)
        found = {
            name: self._stored.languages[name] for name in experts if self._stored and name in self._stored.languages
        }
        missing = {name: self._texts[name].fit for name in experts if name not in found and name in self._texts}
        if missing:
            found |= gather_sums(self.states, experts, missing)
        return {name: found[name] for name in experts if name in found}

    def _solved(self, sums: Mapping[str, Sums], missing: Sequence[str]) -> TokenRouters:
        experts = list(self._plan.experts)
        ridge = self._config.ridge
        if self._stored and "ridge" not in self._config.model_fields_set:
            ridge = self._stored.ridge
        weights = solve(sums, experts, ridge)
        found = self._calibration(experts, weights, sums)
        self._token_how = "solved again from moments"
        if missing:
            self._token_how += f"; without documents of {', '.join(missing)} the rows of their experts are zeros"
        if found:
            temperatures, self._by_language = found.temperatures, found.accuracy_by_language
        else:
            assert self._stored  # with no moments stored there are documents of all languages, and so a calibration
            temperatures = self._stored.temperatures
            self._token_how += "; without documents of all languages, temperatures are those of before"
        accuracies = found.accuracies if found else ()
        return TokenRouters(cooled(weights, temperatures), temperatures, accuracies, sums, ridge)

    def _calibration(
        self, experts: list[str], weights: Sequence[torch.Tensor], sums: Mapping[str, Sums]
    ) -> Calibration | None:
        """The temperatures, where each language has text: those of a few would speak for these alone."""
        if not sums.keys() <= self._texts.keys():
            return None
        return calibrate(self.states, experts, weights, {name: self._texts[name].calibration for name in sums})

    def _kept(self, unsolved: Sequence[str], missing: Sequence[str]) -> TokenRouters:
        """The rows that there were, zeros for a new expert; no moments."""
        rows = {name: number for number, name in enumerate(self.before.experts)}
        weights = []
        for weight in self.before.weights:
            new = weight.new_zeros(len(self._plan.experts), weight.shape[1])
            for number, name in enumerate(self._plan.experts):
                if name in rows:
                    new[number] = weight[rows[name]]
            weights.append(new)
        lacking = ", ".join(unsolved or missing)
        self._token_how = f"rows kept as they were, a new expert's zeros: no moments and no documents of {lacking}"
        return TokenRouters(tuple(weights), (), (), {}, self._config.ridge)

    def token_facts(self) -> dict[str, Any]:
        """What the manifest tells of the token routers."""
        routers = self.token_routers()
        return {
            "how": self._token_how,
            "accuracy_by_layer": list(routers.accuracies),
            "accuracy_by_language": {name: list(by_layer) for name, by_layer in self._by_language.items()},
            "temperature_by_layer": list(routers.temperatures),
            "layers": list(self._plan.layers),
        }

    def _new_prompt_router(self) -> tuple[PromptRouter, str]:
        """The new router and how it came about."""
        experts, old = list(self._plan.experts), self._prompt_router_before
        languages = [name for name in experts if name != GENERALIST]
        if all(name in self._texts for name in languages):
            texts = {name: self._texts[name].prompts for name in languages}
            kept = {} if "prefix_tokens" in self._config.model_fields_set else {"prefix_tokens": old.prefix_tokens}
            config = self._config.model_copy(update=kept)
            fitted = fit_prompt_router(texts, self._tokenizer, self._plan.trunk.decoder.vocabulary, config)
            columns, how = _columns(fitted.weight_FE, languages, experts), "refitted on documents of all languages"
            return self._with_fallback(replace(fitted, weight_FE=columns), fitted=True), how
        columns = _columns(old.weight_FE, self.before.experts, experts)
        new = [name for name in experts if name not in self.before.experts]
        how = (
            f"not refitted, for want of documents of all languages: it does not know {new[0]}, and sends a prompt "
            "there only where it is sure of no other"
            if new
            else "not refitted, for want of documents of all languages: the dropped expert's probability goes to the "
            "others in proportion"
        )
        say(f"expert: prompt router: {how}")
        return self._with_fallback(replace(old, weight_FE=columns), fitted=False), how

    def _with_fallback(self, router: PromptRouter, *, fitted: bool) -> PromptRouter:
        """The fallback of before, where it can be kept and the config names no other."""
        experts, old = list(self._plan.experts), self._prompt_router_before
        if old.fallback is Fallback.UNIFORM and not fitted:
            return router  # which has read nothing: any choice of experts would be chance
        kept: dict[str, Any] = {}
        if old.fallback is not Fallback.UNIFORM:
            kept["prompt_fallback"] = str(old.fallback)
        if old.fallback in (Fallback.GENERALIST, Fallback.TOP_2):
            kept["prompt_confidence"] = old.confidence
        if old.fallback is Fallback.GENERALIST and GENERALIST not in experts:
            kept["prompt_fallback"] = "auto"
        update = {key: value for key, value in kept.items() if key not in self._config.model_fields_set}
        return with_fallback(router, experts, self._config.model_copy(update=update))

    def prompt_facts(self, documents: Path | None) -> dict[str, Any]:
        """What the manifest tells of the prompt router: on held-out documents, before and after."""
        facts: dict[str, Any] = {"how": self._prompt_how}
        if documents is not None and self._texts:
            longest = max(router.prefix_tokens for router in (self._prompt_router_before, self.prompt_router))
            held_out = {
                name: first_tokens(read_texts(documents, name, "held_out"), self._tokenizer, longest)
                for name in self._texts
            }
            stay = {name: held for name, held in held_out.items() if name in self.before.experts}
            if stay:
                facts["before"] = prompt_router_facts(self._prompt_router_before, stay, list(self.before.experts))
            facts["after"] = prompt_router_facts(self.prompt_router, held_out, list(self._plan.experts))
        return facts


def _columns(weight_FE: torch.Tensor, of: Sequence[str], experts: Sequence[str]) -> torch.Tensor:
    """The columns `of` these experts in the places of others; zeros for those that have none."""
    columns = weight_FE.new_zeros(len(weight_FE), len(experts))
    for number, name in enumerate(experts):
        if name in of:
            columns[:, number] = weight_FE[:, list(of).index(name)]
    return columns
