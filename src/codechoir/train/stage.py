"""The train stage: a shared trunk, from it one expert per language and one universal dense model.

In: a base model's folder and curate's documents. Out: one Hugging Face folder a branch, each finished and resumed on
its own. The universal model goes on from the trunk with the mix until it has seen every token that the experts saw
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codechoir.artifacts import Manifest, StageFolder
from codechoir.documents import read_texts
from codechoir.model.checkpoint import load_tokenizer, separator_id
from codechoir.train.branch import Branch, train_branch
from codechoir.train.config import TrainConfig
from codechoir.train.packing import Packed, Tokens, expert_sequences, pack, trunk_sequences, universal_sequences

VERSION = 1
TRUNK, UNIVERSAL = "trunk", "universal"


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """What training reads: the base model's folder, the curated documents, and the digests that stand for them."""

    base: Path
    base_digest: str
    documents: Path
    documents_digest: str


def train(config: TrainConfig, languages: Sequence[str], inputs: TrainInputs, out: Path) -> dict[str, Manifest]:
    """Trains what is not yet trained under `out` and returns every branch's manifest, by its name."""
    packed: dict[str, Packed] = {}  # filled when the first unfinished branch needs it

    def sequences(branch: str) -> Tokens:
        if not packed:
            packed.update(_pack_all(config, languages, inputs))
        if branch == TRUNK:
            return trunk_sequences(packed, config)
        return universal_sequences(packed, config) if branch == UNIVERSAL else expert_sequences(packed[branch], config)

    manifests: dict[str, Manifest] = {}
    for name in (TRUNK, *languages, UNIVERSAL):
        trunk = manifests.get(TRUNK)
        start, start_digest = (out / TRUNK, trunk.digest) if trunk else (inputs.base, inputs.base_digest)
        folder = StageFolder(
            out / name,
            f"train-{name}",
            VERSION,
            config.model_dump(mode="json", exclude={"checkpoint_seconds"}) | {"languages": list(languages)},
            {"start": start_digest, "documents": inputs.documents_digest},
        )
        finished = folder.finished()
        if finished is None:
            folder.begin()
            branch = Branch(name, start, sequences(name), name != TRUNK or config.trainable == "feed-forward")
            facts = train_branch(branch, config, folder)
            before = trunk.facts["tokens"] if trunk else 0
            finished = folder.finish(facts | {"total_tokens": before + facts["tokens"], "epochs": _epochs(packed)})
        manifests[name] = finished
    return manifests


def _pack_all(config: TrainConfig, languages: Sequence[str], inputs: TrainInputs) -> dict[str, Packed]:
    tokenizer = load_tokenizer(inputs.base)
    separator = separator_id(tokenizer)
    count = config.trunk_sequences + config.expert_sequences
    return {
        name: pack(read_texts(inputs.documents, name, "train"), tokenizer, separator, config, count)
        for name in languages
    }


def _epochs(packed: Mapping[str, Packed]) -> dict[str, float]:
    return {name: language.epochs for name, language in packed.items()}
