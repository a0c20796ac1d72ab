"""A folder with everything that commands read, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from tests.conftest import write_folder

TINY = "--model vit_demo --weights none --image-size 32 --crop-pct 1 --epochs 1 --batch-size 16 --threads 1"
TRAIN = f"train --data data {TINY} --explain 3"
SWEPT = "sweep.yaml --runs-dir swept"  # a sweep of one trial that has run


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a finished run, a sweep file and its finished sweep; not to be written to."""
    from tests.helpers.forked import fork_runs
    from tests.helpers.sweeping import sweep_here, write_sweep  # imports torch and optuna

    root = tmp_path_factory.mktemp("template")
    write_folder(root / "data", classes=2, train=6, valid=3, test=3)
    for split in ("train", "valid", "test"):
        for index in (0, 1):
            (root / "data" / split / f"class {index}").rename(root / "data" / split / str(index))
    file = write_sweep(root / "sweep.yaml", Path("data"), *TINY.split()[4:], parameters={"lr": {"value": 1e-3}})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("HARNESS_CACHE_DIR", str(root / "cache"))
        fork_runs(patch)
        result = CliRunner().invoke(main, f"{TRAIN} --runs-dir runs".split())
        assert result.exit_code == 0, result.output
        assert sweep_here(file.relative_to(root), Path("swept")) == 0
    [run] = (root / "runs").iterdir()
    run.rename(root / "run")
    shutil.copytree(root / "run", root / "runs" / "run")
    return root
