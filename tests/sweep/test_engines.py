"""One sweep file, two engines: W&B's client and agent with a local server, and `harness sweep run` offline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.demo import scenes
from tests import ROOT
from tests.helpers.programs import write_accelerate
from tests.helpers.wandb_agents import IMPATIENT
from tests.helpers.wandb_server import API_KEY, WandbServer

FILE = ROOT / "sweeps" / "demo.yaml"
LR = 3e-4

pytestmark = pytest.mark.slow


def run(*command: str, environment: dict[str, str], log: Path) -> str:
    """Run Python with these words in the root of the repository; returns its output."""
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=400,
            check=False,
        )
    assert done.returncode == 0, log.read_text()
    return log.read_text()


def summaries(runs: Path) -> dict[tuple[float, str, str], dict[str, float]]:
    by_settings = {}
    for path in runs.rglob("summary.json"):
        config = json.loads((path.parent / "config.json").read_text())
        by_settings[config["lr"], config["augment"], config["head_init"]] = json.loads(path.read_text())
    return by_settings


def test_both_engines_give_the_same_scores(tmp_path: Path) -> None:
    """The file of the demo, with one of its learning rates and one of its heads."""
    contents = yaml.safe_load(FILE.read_text())
    contents["parameters"] |= {"lr": {"values": [LR]}, "head_init": {"values": ["probe"]}}
    sweep_file = tmp_path / "demo.yaml"
    sweep_file.write_text(yaml.safe_dump(contents))
    data = scenes.write(tmp_path / "scenes", train=4, valid=2, test=2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    programs = (write_accelerate(tmp_path / "bin"), Path(sys.executable).parent, os.environ["PATH"])
    environment |= {"PATH": ":".join(map(str, programs)), "PYTHONPATH": str(ROOT), "WANDB_DIR": str(tmp_path)}
    (temporary := tmp_path / "temporary").mkdir()
    environment["TMPDIR"] = str(temporary)
    words = f"--data={data} --epochs=1 --threads=1 --explain=none"
    with WandbServer() as server:
        online = environment | {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": API_KEY,
            "HARNESS_SWEEP_ARGS": f"{words} --runs-dir={tmp_path / 'online'}",
        }
        output = run(
            "-m", "wandb", "sweep", "--project", "p", str(sweep_file), environment=online, log=tmp_path / "sweep.log"
        )
        [sweep_id] = server.sweeps
        assert f"wandb agent team/p/{sweep_id}" in output
        run("-c", IMPATIENT, "agent", f"team/p/{sweep_id}", environment=online, log=tmp_path / "agent.log")
        names = ("lr", "augment", "head_init")
        run_of = {tuple(run.config[name] for name in names): run for run in server.runs.values()}
    assert server.refused == []

    offline = environment | {"HARNESS_SWEEP_ARGS": words}
    output = run(
        "-m", "harness.cli", "sweep", "run", str(sweep_file), "--runs-dir", str(tmp_path / "offline"),
        environment=offline, log=tmp_path / "run.log",
    )  # fmt: skip

    with_account, without = summaries(tmp_path / "online"), summaries(tmp_path / "offline")
    kinds = (("none", "probe"), ("standard", "probe"))
    assert set(with_account) == set(without) == {(LR, *kind) for kind in kinds}
    assert len(list((tmp_path / "online").iterdir())) == len(run_of) == 2
    for point, summary in without.items():
        for key in ("best/val_f1", "best/val_loss", "test/f1", "test/loss"):
            assert with_account[point][key] == summary[key], (point, key)
        assert run_of[point].summary["best/val_f1"] == summary["best/val_f1"]
        assert run_of[point].fields["sweep"]
        assert run_of[point].exit_code == 0
    assert "[2/2]" in output
    # What `wandb sweep` and `accelerate launch`, which the agent starts, leave is theirs.
    theirs = re.compile(r"torchelastic_.*|debug-cli\..*\.log|tmp.*wandb-(artifacts|media)")
    assert [path for path in temporary.iterdir() if not theirs.fullmatch(path.name)] == []


# Each takes tenths of a second to seconds of processor time to import.
NEEDED_BY_NO_TRIAL = {
    *("torchmetrics", "optuna", "sqlalchemy", "pandas", "scipy", "sklearn", "transformers", "timm", "plotly"),
    *("matplotlib.pyplot", "torch._inductor.compile_fx", "torch.utils.tensorboard", "tensorflow"),
}
# A run imports them when it uses them: W&B if it is not disabled, the others when it draws.
NEEDED_AT_NO_START = NEEDED_BY_NO_TRIAL | {"wandb", "matplotlib", "pydantic", "rich"}


def test_the_fork_server_has_imported_what_trials_need_and_used_no_device(tmp_path: Path) -> None:
    """Its imports neither initialise CUDA, nor count devices, nor start a thread. The first trial waits for them."""
    check = (
        "import os, sys\n"
        "import harness.train\n"
        f"assert not sorted({NEEDED_AT_NO_START} & set(sys.modules))\n"
        "import harness.sweep.execution.preload, torch, wandb\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert torch.cuda._cached_device_count is None\n"
        f"assert not sorted({NEEDED_BY_NO_TRIAL} & set(sys.modules))\n"
        "files = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]\n"
        "assert not [path for path in files if 'nvidia' in path]\n"
        "print('threads', len(os.listdir('/proc/self/task')))\n"
        "loaded = set(sys.modules)\n"
        "run = wandb.init(mode='offline', settings=wandb.Settings(silent=True))\n"
        "run.log({'table': wandb.Table(columns=['a'], data=[[1]])})\n"
        "run.finish()\n"
        "print('imported late:', *sorted(set(sys.modules) - loaded))\n"
    )
    environment = os.environ | {"WANDB_MODE": "offline"}
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    threads, late = done.stdout.splitlines()
    assert threads == "threads 1"
    assert not [name for name in late.split()[2:] if name.startswith(("wandb", "pydantic"))]
