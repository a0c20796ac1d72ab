"""The shape of the code base: which way imports point, and names that would hide other packages."""

from __future__ import annotations

import ast
import graphlib
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests import ROOT

PACKAGE = ROOT / "harness"

# From the bottom up. A package or front-door module imports from layers below its own, and from nothing beside it.
LAYERS = (
    ("harness.errors", "harness.run_name"),
    ("harness.runs.light", "harness.recipes"),
    ("harness.data.policies",),
    ("harness.settings",),
    ("harness.files",),
    ("harness.config", "harness.time_limit"),
    ("harness.options", "harness.launch", "harness.model", "harness.track"),
    ("harness.data", "harness.demo"),
    ("harness.doctor", "harness.training"),
    ("harness.evaluate", "harness.runs"),
    ("harness.probe",),
    ("harness.prediction",),
    ("harness.predict",),
    ("harness.explain",),
    ("harness.evidence",),
    ("harness.export", "harness.trained"),
    ("harness.finish",),
    ("harness.train",),
    ("reports.runs",),
    ("reports.columns", "reports.values"),
    ("reports.stats", "reports.errors"),
    ("reports.collection", "reports.command"),
    ("reports.caveats", "reports.importance"),
    ("reports.page",),
    ("reports.wandb_report",),
    ("harness.sweep",),
    ("harness.slurm",),
    ("harness.cli",),
    ("harness.run",),
)
# The contract of the run folder, which reports read as well: standard library, numpy and harness.errors only.
LIGHT = tuple(
    f"harness.runs.{name}"
    for name in (
        "attention_files",
        "attention_maps",
        "confidence_bins",
        "confusion_counts",
        "embeddings",
        "evidence_file",
        "intervals",
        "metric_table",
        "npz_arrays",
        "paired",
        "predictions",
        "reading",
        "similarity_tiles",
        "resampling",
        "rules",
        "sprite_files",
    )
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


def modules(package: str = "harness") -> list[Path]:
    root = ROOT / package
    return [path for path in sorted(root.rglob("*.py")) if path != root / "__init__.py"]


def unit(module: str) -> str:
    """The package or front-door module that a dotted name belongs to: harness.data.cache -> harness.data."""
    if module.startswith(LIGHT):
        return "harness.runs.light"
    if module.startswith("harness.data.policies"):  # names that settings need, without the rest of the package
        return "harness.data.policies"
    return ".".join(module.split(".")[:2])


def layer_name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Units that a file imports, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {unit(name) for name in names} & set(HEIGHT)


@pytest.mark.parametrize(
    "path", [*modules("harness"), *modules("reports")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_point_one_way(path: Path) -> None:
    own = unit(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert own in HEIGHT, f"say in LAYERS where {own} belongs"
    above = {name for name in imported(path) - {own} if HEIGHT[name] >= HEIGHT[own]}
    assert not above, f"{path.name} imports {above}, which stand beside or above it"


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also within a package, where the layers say nothing; imports for type checkers alone are left out."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in [*modules("harness"), *modules("reports")]
    }
    graph = {name: module_imports(path, set(paths)) - {name} for name, path in paths.items()}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(error.args[1]))


def module_imports(path: Path, known: set[str]) -> set[str]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} & known or {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & known


def test_no_file_of_the_package_hides_a_module() -> None:
    # `accelerate launch harness/run.py` puts the folder itself on sys.path before run.py can take it off.
    names = {path.stem for path in PACKAGE.glob("*.py")} | {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    installed = {name for name in metadata.packages_distributions() if name not in ("harness",)}
    assert not names & (set(sys.stdlib_module_names) | installed) - {"run", "__init__", "__pycache__"}


LONGEST_FILE, LONGEST_FUNCTION = 250, 60
# The story of a run is one function.
LONGER_FUNCTIONS = {"harness/train.py": {"_train_and_test"}}


def test_files_and_functions_are_short() -> None:
    paths = [path for folder in ("harness", "reports") for path in sorted((ROOT / folder).rglob("*.*"))]
    too_long = []
    for path in (path for path in paths if path.suffix in (".py", ".js", ".css", ".j2")):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            too_long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text if path.suffix == ".py" else "")):
            if not isinstance(node, ast.FunctionDef):
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST_FUNCTION and node.name not in LONGER_FUNCTIONS.get(name, ()):
                too_long.append(f"{name}: {node.name} has {lines} lines")
    assert too_long == []


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


def test_reports_import_the_light_half_of_runs_and_nothing_else_of_the_harness() -> None:
    paths = sorted((ROOT / "reports").rglob("*.py"))
    for package in ("wandb", "torch"):
        assert not importers(package, paths)
    # Only dashboards in W&B need its extra, inside functions.
    assert {path.name for path in importers("wandb_workspaces", paths)} == {"dashboard.py", "panels.py"}
    modules_of_harness = {name for path in paths for name in dotted_imports(path) if name.startswith("harness")}
    assert modules_of_harness <= set(LIGHT), modules_of_harness - set(LIGHT)


def test_the_light_half_of_runs_needs_numpy_alone() -> None:
    allowed = {*sys.stdlib_module_names, "numpy"}
    for module in LIGHT:
        for name in dotted_imports(ROOT / f"{module.replace('.', '/')}.py"):
            assert name.partition(".")[0] in allowed or name in (*LIGHT, "harness.errors"), (module, name)


def dotted_imports(path: Path) -> set[str]:
    """Modules that a file imports, by their full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module in ("harness", "harness.runs")
                else {node.module}
            )
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names
