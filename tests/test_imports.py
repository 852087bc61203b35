"""The layers: imports go to the same part or a lower layer, stages never meet, torch stays where models are.

Parts are the top-level modules and packages of codechoir. Within layer 3 the order is recipe, pipeline, cli.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SRC = Path(__file__).parent.parent / "src" / "codechoir"
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("records", "languages", "artifacts", "console", "errors", "config", "documents", "problems", "translation"),
        *("packages", "registries", "archives"),
    ),
    ("model", "sandbox"),
    ("data", "train", "compose", "generate", "evaluate", "report", "serve"),
    ("recipe",),
    ("pipeline", "planning"),
    ("cli",),
    ("__main__",),
)
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}
HEAVY = ("torch", "transformers", "accelerate", "peft", "safetensors.torch")
MAY_BE_HEAVY = {"model", "train", "compose", "generate", "serve"}
# These run stages, so they import torch once they are imported; the command line imports them when a command is run.
RUNS_STAGES = {"pipeline", "__main__"}


class Import(NamedTuple):
    """One imported name, absolute. `eager` imports happen as soon as the module is imported."""

    target: str
    line: int
    eager: bool


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below the package folder `root`."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path) -> list[Import]:
    """Everything a module imports, wherever it does so."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node, eager in walk(ast.parse(path.read_text(encoding="utf-8")), True):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, eager) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found += [Import(f"{base}.{alias.name}", node.lineno, eager) for alias in node.names]
    return found


def walk(node: ast.AST, eager: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, eager
    lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    lazy |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from walk(child, eager and not lazy)


def resolve(target: str, modules: dict[str, Path]) -> str | None:
    """The module of ours that importing `target` loads (a name within a module loads that module)."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target or None


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def is_heavy(target: str) -> bool:
    return any(target == name or target.startswith(name + ".") for name in HEAVY)


def violations(root: Path) -> list[str]:
    """What breaks the layers in the package folder `root`, one line each."""
    modules = modules_of(root)
    imports = {module: imports_of(module, path) for module, path in modules.items()}
    found = []
    for module, targets in imports.items():
        part = part_of(module)
        if part and part not in LAYER_OF:
            found.append(f"{module}: no layer is known for {part!r}")
            continue
        for target, line, _ in targets:
            where = f"{module}:{line}: "
            if is_heavy(target) and part not in MAY_BE_HEAVY:
                found.append(f"{where}{target} is imported outside model/, train/, compose/, generate/, serve/")
            ours = resolve(target, modules)
            if ours is not None and (wrong := wrong_way(part, part_of(ours))):
                found.append(f"{where}{wrong}")
    return found + cycles(modules, imports) + carried(modules, imports)


def wrong_way(part: str, imported: str) -> str:
    """Why `part` may not import `imported`; nothing where it may. The package itself ('') imports nothing."""
    if imported in ("", part):
        return ""
    here, there = LAYER_OF.get(part, -1), LAYER_OF.get(imported, len(LAYERS))
    if there < here or here == there == 0:
        return ""
    return f"{part or 'the package'} imports {imported}, which is not in a lower layer"


def loaded_with(
    module: str, modules: dict[str, Path], imports: dict[str, list[Import]]
) -> Iterator[tuple[str, list[str]]]:
    """Each module that importing `module` loads, and each heavy target, with the way there."""
    ways = {module: [module]}
    queue = [module]
    while queue:
        here = queue.pop()
        yield here, ways[here]
        nexts = [target for target, _, eager in imports.get(here, []) if eager]
        nexts += [here.rpartition(".")[0]] if "." in here and here in modules else []
        for target in nexts:
            name = resolve(target, modules) or (target if is_heavy(target) else None)
            if name is not None and name not in ways:
                ways[name] = [*ways[here], name]
                queue.append(name)


def carried(modules: dict[str, Path], imports: dict[str, list[Import]]) -> list[str]:
    """The modules that load torch by way of others, though they must do without: among them every stage's config,
    since a recipe is read before anything heavy is."""
    found = []
    for module in modules:
        part = part_of(module)
        if part not in MAY_BE_HEAVY | RUNS_STAGES or module.endswith(".config"):
            for name, way in loaded_with(module, modules, imports):
                if is_heavy(name) and (len(way) > 2 or module.endswith(".config")):
                    found.append(f"{module}: loads {name} by way of {' -> '.join(way[1:-1]) or 'itself'}")
    return found


def cycles(modules: dict[str, Path], imports: dict[str, list[Import]]) -> list[str]:
    """The modules of layer 0 that import themselves by way of others: there, order is not given by parts."""
    low = {module for module in modules if part_of(module) in LAYERS[0]}
    found = []
    for module in sorted(low):
        seen: set[str] = set()
        queue = [module]
        while queue:
            for target, _, _ in imports[queue.pop()]:
                name = resolve(target, modules)
                if name in low and name not in seen:
                    seen.add(name)
                    queue.append(name)
        if module in seen:
            found.append(f"{module}: imports itself by way of {', '.join(sorted(seen - {module})) or 'itself'}")
    return found


def test_the_layers_hold() -> None:
    assert violations(SRC) == []


def test_something_is_checked() -> None:
    modules = modules_of(SRC)
    assert {"codechoir", "codechoir.records", "codechoir.model", "codechoir.cli"} <= set(modules)
    targets = [one.target for one in imports_of("codechoir.records", modules["codechoir.records"])]
    assert "codechoir.errors.InputError" in targets


SOUND = {
    "__init__": "__version__ = '1'",
    "errors": "",
    "artifacts": "from codechoir import __version__\nfrom codechoir.errors import UserError",
    "model/__init__": "",
    "model/moe": "import torch\nfrom . import families\nfrom ..errors import UserError",
    "model/families": "from codechoir import artifacts",
    "sandbox/__init__": "",
    "train/__init__": "",
    "train/config": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
    "train/stage": "from codechoir.model.moe import Moe\nfrom codechoir.train.config import TrainConfig",
    "report/__init__": "",
    "report/stage": "import codechoir.artifacts",
    "recipe": "from codechoir.train.config import TrainConfig",
    "pipeline": "import codechoir.recipe\nimport codechoir.train.stage",
    "cli/__init__": "",
    "cli/main": "def run():\n    from codechoir import pipeline",
    "cli/train": "def run():\n    from codechoir.train import stage",
}


def package(folder: Path, changes: dict[str, str]) -> Path:
    root = folder / "codechoir"
    for name, text in {**SOUND, **changes}.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_sound_package_has_no_violations(tmp_path: Path) -> None:
    assert violations(package(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("errors", "import codechoir.model.families", "errors imports model"),
        ("errors", "from .report import stage", "errors imports report"),
        ("errors", "def late():\n    from codechoir.recipe import x", "errors imports recipe"),
        ("__init__", "from codechoir.errors import UserError", "the package imports errors"),
        ("sandbox/__init__", "from codechoir.model import families", "sandbox imports model"),
        ("model/families", "from codechoir.sandbox import run", "model imports sandbox"),
        ("model/families", "from ..train.config import TrainConfig", "model imports train"),
        ("report/stage", "from codechoir import train", "report imports train"),
        ("report/stage", "import codechoir.train.config as c", "report imports train"),
        ("train/stage", "if TYPE_CHECKING:\n    from codechoir.report import stage", "train imports report"),
        ("recipe", "from codechoir import pipeline", "recipe imports pipeline"),
        ("pipeline", "from codechoir.cli import main", "pipeline imports cli"),
        ("errors", "import codechoir.artifacts", "codechoir.errors: imports itself by way of codechoir.artifacts"),
        ("report/stage", "import torch", "torch is imported outside"),
        ("report/stage", "def late():\n    import torch.nn.functional as F", "torch.nn.functional is imported outside"),
        ("artifacts", "from safetensors import torch", "safetensors.torch is imported outside"),
        ("cli/main", "from transformers import AutoConfig", "transformers.AutoConfig is imported outside"),
        ("report/stage", "from codechoir.model import moe", "codechoir.report.stage: loads torch by way of"),
        ("train/config", "import torch", "codechoir.train.config: loads torch by way of itself"),
        ("train/__init__", "from codechoir.train import stage", "codechoir.recipe: loads torch by way of"),
        ("cli/main", "from codechoir import pipeline", "codechoir.cli.main: loads torch by way of"),
        ("cli/train", "from codechoir.train import stage", "codechoir.cli.train: loads torch by way of"),
        ("helpers", "", "no layer is known for 'helpers'"),
    ],
)
def test_each_kind_of_violation_is_found(tmp_path: Path, module: str, text: str, said: str) -> None:
    found = violations(package(tmp_path, {module: text}))
    assert any(said in line for line in found), found


LIGHT = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    loaded = [heavy for heavy in sys.argv[1].split() if heavy in sys.modules]
    assert not loaded, f"{name} loads {loaded}"
"""


def test_the_command_line_and_the_light_parts_load_no_torch() -> None:
    """The same as `carried`, by running it."""
    modules = modules_of(SRC)
    light = [name for name in modules if part_of(name) not in MAY_BE_HEAVY | RUNS_STAGES or name.endswith(".config")]
    assert "codechoir.artifacts" in light
    done = subprocess.run([sys.executable, "-c", LIGHT, " ".join(HEAVY), *light], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
