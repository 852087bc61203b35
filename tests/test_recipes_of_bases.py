"""The recipes of published bases: at their full shape on the meta device, and run with a small model of the family.

Full shape: weights files whose headers are whole and whose data is a hole in the file, so that gigabytes take no room.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.published import CONFIGS, PARAMETERS

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = {
    "santacoder": "bigcode/gpt_bigcode-santacoder",
    "phi-2": "microsoft/phi-2",
    "qwen2.5-coder": "Qwen/Qwen2.5-Coder-0.5B",
    "the-stack": "HuggingFaceTB/SmolLM2-135M",
}
# Published sizes: layers, width, inner width, linear layers of a feed-forward module, numbers in their biases.
FEED_FORWARD = {
    "santacoder": (24, 2048, 8192, 2, 8192 + 2048),
    "phi-2": (32, 2560, 10240, 2, 10240 + 2560),
    "qwen2.5-coder": (24, 896, 4864, 3, 0),
    "the-stack": (30, 576, 1536, 3, 0),
}
# Numbers outside of the layers: embeddings (SantaCoder's positions, too), the last norm, and Phi-2's head.
OUTSIDE = {
    "santacoder": (49280 + 2048) * 2048 + 2 * 2048,
    "phi-2": 2 * 51200 * 2560 + 51200 + 2 * 2560,
    "qwen2.5-coder": 151936 * 896 + 896,
    "the-stack": 49152 * 576 + 576,
}
SENTINELS = {
    "santacoder": ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    "qwen2.5-coder": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
}
LANGUAGES = ("python", "java", "javascript", "cpp")


@pytest.mark.parametrize("name", RECIPES)
def test_what_the_recipe_asks_for(name: str) -> None:
    from codechoir.recipe import load_recipe

    recipe = load_recipe(FOLDER / f"{name}.yaml")
    train, generate = recipe.train, recipe.generate
    assert recipe.base.model_dump() == {"kind": "hub", "id": RECIPES[name], "revision": "main"}
    assert train.expert_sequences * train.sequence_length >= 20_000_000
    assert train.sequences_per_step % (8 * train.sequences_per_forward) == 0  # one to eight devices have equal shares
    config = CONFIGS[RECIPES[name]]
    positions: int = config.get("max_position_embeddings") or config["n_positions"]
    assert max(train.sequence_length, generate.held_out_tokens) <= positions
    assert (train.infilling_rate == 0.5) == (name in SENTINELS)
    assert recipe.problems.limit is None
    assert (generate.num_samples, generate.temperature) == (10, 0.2)


@pytest.fixture(scope="module")
def full_shape(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`full_shape(recipe)`: a model folder of the published shape, its tensors' data a hole in the file."""
    from codechoir.model.checkpoint import model_config
    from codechoir.model.inspection import build_on_meta
    from codechoir.model.names import names_of

    root = tmp_path_factory.mktemp("full")

    def make(name: str) -> Path:
        folder = root / name
        if folder.exists():
            return folder
        folder.mkdir()
        config = CONFIGS[RECIPES[name]]
        (folder / "config.json").write_text(json.dumps(config))
        shutil.copy(random_base / "tokenizer.json", folder)
        model = build_on_meta(model_config(config, "here").to_dict(), "here")
        tied = names_of(model).tied
        header: dict[str, Any] = {}
        end = 0
        for tensor, parameter in model.named_parameters():
            if tensor not in tied:
                start, end = end, end + 2 * parameter.numel()
                header[tensor] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        with (folder / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
        return folder

    return make


@pytest.mark.parametrize("name", RECIPES)
def test_four_experts_are_planned_at_full_shape(name: str, full_shape: Callable[[str], Path]) -> None:
    from codechoir.compose.plan import Form, Part, plan
    from codechoir.recipe import load_recipe

    recipe, base = load_recipe(FOLDER / f"{name}.yaml"), full_shape(name)
    found = plan(base, dict.fromkeys(recipe.languages, base), recipe.compose)
    layers, width, inner, modules, biases = FEED_FORWARD[name]
    sizes = dict.fromkeys(Part, 0)
    for output in found.outputs:
        sizes[output.part] += math.prod(output.tensor.shape)
    feed_forward = layers * (modules * width * inner + biases)
    assert sizes[Part.EXPERTS] == 4 * feed_forward
    assert sizes[Part.SHARED] == PARAMETERS[RECIPES[name]] - feed_forward
    assert sizes[Part.ROUTER] == layers * 4 * width
    assert found.form is (Form.MIXTRAL if name == "the-stack" else Form.OWN)


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_that_move_at_full_shape(
    name: str, full_shape: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from codechoir.model.checkpoint import full_config, open_checkpoint
    from codechoir.model.inspection import build_on_meta
    from codechoir.recipe import load_recipe
    from codechoir.train import ways

    def on_meta(folder: Path, dtype: torch.dtype) -> Any:
        return build_on_meta(full_config(open_checkpoint(folder)), folder).to(dtype)

    monkeypatch.setattr(ways, "load_model", on_meta)
    train, base = load_recipe(FOLDER / f"{name}.yaml").train, full_shape(name)
    layers, width, inner, modules, biases = FEED_FORWARD[name]
    whole = PARAMETERS[RECIPES[name]]
    expected = {
        "feed-forward": layers * (modules * width * inner + biases),
        "lora": layers * modules * train.lora_rank * (width + inner),
        "last-layers": train.last_layers * (whole - OUTSIDE[name]) // layers,
        "all": whole,
    }
    for way, number in expected.items():
        trained = ways.load_subject(base, way, train, torch.bfloat16).trained()  # type: ignore[arg-type]
        assert sum(parameter.numel() for parameter in trained.values()) == number, way
        assert {parameter.dtype for parameter in trained.values()} == {torch.bfloat16}


# A small model of each family: the published config with these sizes, and a byte tokenizer.
_SMALL = {
    "hidden_size": 80, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "max_window_layers": 2,
}  # fmt: skip
_SMALL_GPT = {"n_embd": 32, "n_inner": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}


@pytest.fixture(scope="module")
def small(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`small(recipe)`: a random two-layer model of the family, laid out as the hub's cache lays out a snapshot."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    def make(name: str) -> Path:
        root = tmp_path_factory.mktemp("hub") / f"models--{RECIPES[name].replace('/', '--')}"
        published = CONFIGS[RECIPES[name]]
        sizes = _SMALL_GPT if "n_embd" in published else _SMALL
        tokenizer = AutoTokenizer.from_pretrained(random_base)
        tokenizer.add_special_tokens({"additional_special_tokens": list(SENTINELS.get(name, ()))})
        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
        known = {key: value for key, value in sizes.items() if key in published}
        config = AutoConfig.for_model(**published | known | ids | {"vocab_size": len(tokenizer)})
        blobs, snapshot = root / "blobs", root / "snapshots" / "0123abcd"
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(blobs)
        tokenizer.save_pretrained(blobs)
        snapshot.mkdir(parents=True)
        for file in blobs.iterdir():
            (snapshot / file.name).symlink_to(Path("..", "..", "blobs", file.name))
        return snapshot

    return make


_BODIES = {
    "python": "def grow_{0}(value):\n    if value > {0}:\n        return value * {0}\n    return {0}\n",
    "java": "    static int grow{0}(int value) {{\n        return value > {0} ? value * {0} : {0};\n    }}\n",
    "javascript": "function grow{0}(value) {{\n  return value > {0} ? value * {0} : {0};\n}}\n",
    "cpp": "int grow_{0}(int value) {{\n  return value > {0} ? value * {0} : {0};\n}}\n",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with The Stack's columns: 12 repositories with two files of each language."""
    rows = []
    for language, body in _BODIES.items():
        suffix = {"python": "py", "java": "java", "javascript": "js", "cpp": "cpp"}[language]
        for number in range(24):
            text = "\n".join(body.format(1000 * number + 7 * part) for part in range(8))
            content = f"class Grow{number} {{\n{text}}}\n" if language == "java" else text
            rows.append(
                {
                    "hexsha": f"{number:040x}",
                    "size": len(content),
                    "ext": suffix,
                    "lang": {"cpp": "C++", "javascript": "JavaScript"}.get(language, language.title()),
                    "max_stars_repo_path": f"src/grow{number}.{suffix}",
                    "max_stars_repo_name": f"owner/{language}-{number // 2}",
                    "max_stars_repo_licenses": ["MIT"],
                    "max_stars_count": number,
                    "content": content,
                    "avg_line_length": 20.0,
                    "max_line_length": 60,
                    "alphanum_fraction": 0.6,
                }
            )
    path = tmp_path_factory.mktemp("stack") / "data.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def settings(stack: Path, problems: Path) -> dict[str, Any]:
    """What makes a recipe small, and keeps it off the network."""
    return {
        "curate.sources": json.dumps([{"kind": "parquet", "path": str(stack)}]),
        "curate.held_out_fraction": 0.2,
        "curate.decontaminate.against": [],
        "train.sequence_length": 64,
        "train.document_tokens": 64,
        "train.sequences_per_step": 2,
        "train.sequences_per_forward": 1,
        "train.trunk_sequences": 4,
        "train.expert_sequences": 4,
        "train.validation_documents": 2,
        "compose.fit_sequences": 2,
        "compose.calibration_sequences": 1,
        "compose.sequence_length": 64,
        "compose.prompt_documents": 10,
        "compose.proof_tokens": 24,
        "problems.source": problems,
        "generate.held_out_documents": 2,
        "generate.held_out_tokens": 64,
        "generate.max_tokens": 8,
        "generate.num_samples": 2,
        "generate.complete": "[base, moe-prompt]",
    }


@pytest.fixture(scope="module")
def curated(stack: Path, problems: Path, codechoir: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small table curated: what all recipes share."""
    out = tmp_path_factory.mktemp("curated")
    changes = [part for item in settings(stack, problems).items() for part in ("--set", "=".join(map(str, item)))]
    done = codechoir("run", FOLDER / "santacoder.yaml", *changes, "--out", out, "--only", "curate")
    assert done.code == 0, done.stderr
    return out / "curate"


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_runs_with_a_small_model(
    name: str, small: Any, curated: Path, stack: Path, problems: Path, codechoir: Any, tmp_path: Path
) -> None:
    from codechoir.artifacts import read_manifest

    shutil.copytree(curated, tmp_path / "curate")
    changes = settings(stack, problems) | {"base": f"{{kind: folder, path: {small(name)}}}"}
    stages = [] if name == "santacoder" else ["--only", "train", "--only", "compose"]
    arguments = [part for item in changes.items() for part in ("--set", "=".join(map(str, item)))]
    done = codechoir("run", FOLDER / f"{name}.yaml", *arguments, "--out", tmp_path, *stages)
    assert done.code == 0, done.stderr
    manifests = {branch: read_manifest(tmp_path / "train" / branch) for branch in ("trunk", *LANGUAGES, "universal")}
    assert manifests["universal"].facts["tokens"] == 4 * 4 * 64
    assert all(len(manifest.facts["search"]) == 3 for manifest in manifests.values())
    proofs = read_manifest(tmp_path / "compose").facts["proofs"]
    assert [figure["max_abs_difference"] for figure in proofs["fixed_route"].values()] == [0, 0, 0, 0]
    assert read_manifest(tmp_path / "train" / "tokens" / "python").facts["num_infillings"] > 0 or name not in SENTINELS
    assert (tmp_path / "report" / "index.html").exists() == (name == "santacoder")
