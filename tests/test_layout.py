"""The shape of the code base: which way imports point, and names that would hide other packages."""

from __future__ import annotations

import ast
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests import ROOT

PACKAGE = ROOT / "harness"

# A module may import from its own layer and from those below it, never from above.
LAYERS = (
    ("errors",),
    ("config",),
    ("arguments", "files", "proc"),
    (
        "data",
        "stop",
        "console",
        "architecture",
        "naming",
        "weights",
        "pretrained",
        "model",
        "processes",
        "launch",
        "ancestors",
        "track",
    ),
    ("optim", "checkpoint", "run_folder", "state", "step", "provenance", "metrics", "figures", "batches"),
    ("evaluate", "explain", "record", "results", "doctor", "again", "dashboard"),
    ("train",),
    ("sweep",),
    ("cli",),
    ("run",),
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def layer_name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Names of the package's parts that a file imports, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("harness.")}
    return found & set(HEIGHT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = layer_name(path)
    assert own in HEIGHT, f"say in LAYERS where {own} belongs"
    above = {name for name in imported(path) if HEIGHT[name] > HEIGHT[own]}
    # The data set and its batches are made for a model's preprocessing; the rest of the data knows no model.
    assert not above, f"{path.name} imports {above} from above"


def test_no_file_of_the_package_hides_a_module() -> None:
    # `accelerate launch harness/run.py` puts the folder itself on sys.path before run.py can take it off.
    names = {path.stem for path in PACKAGE.glob("*.py")} | {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    installed = {name for name in metadata.packages_distributions() if name not in ("harness",)}
    assert not names & (set(sys.stdlib_module_names) | installed) - {"run", "__init__", "__pycache__"}


def importers(package: str, paths: list[Path]) -> set[Path]:
    """Files that import a package, inside functions included."""

    def imports(path: Path) -> bool:
        nodes = ast.walk(ast.parse(path.read_text()))
        return any(
            (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == package for alias in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package)
            for node in nodes
        )

    return {path for path in paths if imports(path)}


def test_only_track_imports_wandb() -> None:
    assert {layer_name(path) for path in importers("wandb", modules())} == {"track"}
    assert not importers("wandb_workspaces", modules())


def test_reports_are_given_wandb_and_import_neither_it_nor_torch_nor_the_harness() -> None:
    paths = sorted((ROOT / "reports").rglob("*.py"))
    for package in ("wandb", "torch", "harness"):
        assert not importers(package, paths)
    # Dashboards in W&B alone take its extra; that they do so inside functions, a test of reports.runs holds.
    assert {path.name for path in importers("wandb_workspaces", paths)} == {"dashboard.py", "panels.py"}
