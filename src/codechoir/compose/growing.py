"""Experts come and go: a composed model with one expert more or one less, without composing it anew.

In: a composed folder, and an expert to add or the name of one to drop. Out: another composed folder in which all other
experts' weights and the shared ones are the same bytes, with token routers solved again from the stored moments, the
prompt router refitted where there are documents of all languages, both proofs run again, and what the languages that
stay keep of their routing. What could not be refitted is said, in the manifest and to the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codechoir.artifacts import Manifest, StageFolder
from codechoir.compose.compatibility import compare_vocabularies, special_token_differences
from codechoir.compose.config import ComposeConfig
from codechoir.compose.description import parameters
from codechoir.compose.experts import Expert, Kind, blended, open_expert
from codechoir.compose.plan import Form, Plan, mixtral_outputs, own_outputs
from codechoir.compose.prompt_routers import check_fallback
from codechoir.compose.proofs import prove
from codechoir.compose.provenance import changed, own_share
from codechoir.compose.refitting import Refit
from codechoir.compose.retention import NamedRouters, retention
from codechoir.compose.stage import random_texts, write_model
from codechoir.compose.texts import RouterTexts, check_lengths
from codechoir.compose.views import ComposedView, view_composed
from codechoir.console import say
from codechoir.errors import ConfigError, IncompatibleModelError, InputError, ProofError
from codechoir.languages import GENERALIST
from codechoir.model.checkpoint import load_tokenizer, model_config
from codechoir.model.families import context_length
from codechoir.model.moe import MODEL_TYPE

VERSION = 4
_DECIDED = {"generalist", "layers", "own_share", "top_k"}  # by the model that grows


@dataclass(frozen=True, slots=True)
class Change:
    """An expert to add, or with no `folder` one to drop."""

    name: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class GrowInputs:
    """The composed folder, the documents that routers are fitted and measured on, the digests that stand for them."""

    model: Path
    documents: Path | None
    digests: Mapping[str, str]


def grow(config: ComposeConfig, inputs: GrowInputs, change: Change, out: Path) -> Manifest:
    """Writes the changed model into `out` and returns the manifest.

    Raises ConfigError for a change or a length of text that cannot be, IncompatibleModelError for an expert that does
    not fit, ProofError.
    """
    _check_config(config)
    if out.resolve() == inputs.model.resolve():
        raise InputError("a model is not changed in its own folder", seen=out, next_step="give another --out")
    told = {"change": "add" if change.folder else "drop", "expert": change.name}
    folder = StageFolder(out, "expert", VERSION, config.model_dump(mode="json") | told, inputs.digests)
    if finished := folder.finished():
        return finished
    view = view_composed(inputs.model)
    checked = plan_change(view, change, config)
    texts = _texts(checked, change, inputs.documents, config)
    context = context_length(model_config(view.composed.dense_config, view.folder))
    check_lengths(config, context, is_fitted=bool(texts))
    refit = Refit(view, checked, texts, config)
    folder.begin()
    weights = write_model(out, checked, refit, config)
    facts: dict[str, Any] = told | {"experts": list(checked.experts), **parameters(checked)}
    facts["own_share"] = own_share(inputs.model)  # of experts to come, too
    facts["form"] = {"name": checked.form, "why": checked.why}
    facts["made_of"] = changed(view.folder, {name: each.folder for name, each in checked.experts.items()})
    facts["token_router"], facts["prompt_router"] = refit.token_facts(), refit.prompt_facts(inputs.documents)
    facts["drift"], facts["special_tokens"] = weights.summary(), checked.special_tokens
    stay = {name: text.calibration for name, text in texts.items() if name in view.composed.experts}
    facts["retention"] = retention(refit.states, stay, refit.before, refit.after())
    if not stay:
        say("expert: no documents of the languages that stay, so what they keep is not measured")
    if config.prove:
        say("expert: proving the fixed route and identical experts")
        proof_texts = random_texts(checked, config)
        proof_texts |= {name: text.calibration[:1, : config.proof_tokens] for name, text in texts.items()}
        try:
            facts["proofs"] = prove(checked, out, _of_one_length(proof_texts))
        except ProofError:
            (out / "config.json").unlink()
            raise
    return folder.finish(facts)


def plan_change(view: ComposedView, change: Change, config: ComposeConfig) -> Plan:
    """What the change will make, checked by headers alone. Raises ConfigError or IncompatibleModelError."""
    held = view.composed.experts
    if change.folder is None and change.name not in held:
        raise ConfigError("the model has no such expert", seen=change.name, allowed=", ".join(held))
    if change.folder is not None and change.name in held:
        raise ConfigError(
            "the model already has this expert", seen=change.name, next_step=f"drop {change.name} first, then add it"
        )
    kept = [name for name in held if name != change.name]
    if change.folder is None and len(kept) < 2:
        raise ConfigError("a composed model needs at least two experts", seen=", ".join(held))
    anchor = GENERALIST if GENERALIST in kept else kept[0]
    trunk = view.trunk(anchor)
    experts = {name: view.expert(name, trunk) for name in kept}
    differences: dict[str, Mapping[str, Any]] = {}
    if change.folder is not None:
        added = _opened(view, change.name, change.folder, anchor, config)
        experts = _drawn(experts | {change.name: added}, change.name, view)
        if found := special_token_differences(view.folder, change.folder):
            differences[change.name] = found
    check_fallback(list(experts), config)
    layers = view.composed.layers()
    form = Form.MIXTRAL if view.is_mixtral else Form.OWN
    outputs = (mixtral_outputs if view.is_mixtral else own_outputs)(trunk, experts, layers)
    why = f"as {view.folder}, which it was made from"
    return Plan(trunk, experts, layers, config.shared, form, why, _config(view, list(experts)), outputs, differences)


def _drawn(experts: dict[str, Expert], name: str, view: ComposedView) -> dict[str, Expert]:
    """The experts with the new one drawn as far toward the average of all as those that were composed are to theirs.

    These stay as they are: their average is that of what they were as trained.
    """
    family = experts[name].trunk.family
    names = {each for layer in view.composed.layers() for each in family.feed_forward_names(layer)}
    share = own_share(view.folder)
    return experts | {name: blended(experts, share, names)[name]} if share < 1 else experts


def _check_config(config: ComposeConfig) -> None:
    given = sorted(_DECIDED & config.model_fields_set)
    if given:
        raise ConfigError(
            "the composed model decides this already", seen=given[0], next_step="compose anew to change it"
        )
    if config.shared == "mean":
        raise ConfigError(
            "the mean would change the weights that all experts share",
            seen="shared: mean",
            allowed="require-equal, base (the composed model's)",
        )


def _opened(view: ComposedView, name: str, folder: Path, anchor: str, config: ComposeConfig) -> Expert:
    """The new expert, compared with the composed model as with a base."""
    expert = open_expert(name, folder, view.trunk(anchor))
    if expert.kind is Kind.ADAPTER and anchor != GENERALIST:
        raise IncompatibleModelError(
            "an adapter needs the base's feed-forward weights, which this composed model does not hold",
            seen=f"the {name} expert in {folder}",
            allowed="full checkpoints and feed-forward weights; adapters where the model has the generalist",
            next_step="merge the adapter into its base first",
        )
    compare_vocabularies(view.folder, folder, name)
    differences = special_token_differences(view.folder, folder)
    if differences and config.shared == "require-equal":
        key, values = next(iter(differences.items()))
        raise IncompatibleModelError(
            f"the {name} expert has other special tokens than the composed model",
            seen=f"{key} {values['expert']!r} in {folder}",
            allowed=f"{values['base']!r}, as in {view.folder}",
            next_step="to keep the composed model's tokenizer, set shared to base",
        )
    return expert


def _config(view: ComposedView, experts: list[str]) -> dict[str, Any]:
    """The composed config.json with the new number of experts; routers without a fit go on mixing all of them."""
    config = dict(view.composed.checkpoint.config)
    before = NamedRouters(view.composed.experts, [view.router(layer) for layer in view.composed.layers()])
    top_k = min(int(config["num_experts_per_tok"]), len(experts)) if before.is_fitted() else len(experts)
    number = {"experts": experts} if config["model_type"] == MODEL_TYPE else {"num_local_experts": len(experts)}
    return config | number | {"num_experts_per_tok": top_k}


def _texts(checked: Plan, change: Change, documents: Path | None, config: ComposeConfig) -> dict[str, RouterTexts]:
    """The text of each language that there are documents of. Raises InputError where the new one has none."""
    if documents is None:
        return {}
    wanted = [name for name in checked.experts if (documents / name).is_dir() or name == change.name]
    tokenizer = load_tokenizer(checked.trunk.folder)
    return {name: RouterTexts.read(documents, name, tokenizer, config) for name in wanted if name != GENERALIST}


def _of_one_length(texts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The texts cut to the shortest, since one of the proofs runs them together."""
    length = min(text.shape[1] for text in texts.values())
    return {name: text[:, :length] for name, text in texts.items()}
