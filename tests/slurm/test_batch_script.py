"""The text of batch scripts: every value arrives as it was given, whatever characters it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.errors import ConfigError
from harness.slurm.batch_script import Places, run_script, sweep_script
from harness.slurm.job import Job
from harness.slurm.site import Site
from tests.helpers.sweeping import write_sweep
from tests.helpers.waiting import wait_for
from tests.helpers.wandb_agents import guide_script

HOSTILE = """it's a "name" $(touch broken) `touch broken` $HOME \\ ; & # %j 100%"""


def places(folder: Path) -> Places:
    return Places("grid", folder, folder / "logs", f"harness sweep {folder}")


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


def test_the_header_of_a_sweep() -> None:
    job = Job("4:00:00", tasks=8, array_limit=4, gpus="a100:2", cpus=6, partition="gpu", account="team")
    script = sweep_script(job, Site(sbatch=("--mem=32G", "-C fast")), places(Path("/data")), ["grid.yaml"], [])
    assert directives(script) == [
        *("--job-name=grid", "--array=0-7%4", "--nodes=1", "--ntasks=1", "--time=4:00:00"),
        *("--gres=gpu:a100:2", "--cpus-per-task=6", "--partition=gpu", "--account=team"),
        *("--chdir=/data", "--output=/data/logs/%A_%a.log", "--open-mode=append", "--requeue"),
        *("--signal=B:TERM@120", "--comment='harness sweep /data'", "--mem=32G", "-C fast"),
    ]
    assert script.startswith("#!/bin/bash\n")


def test_the_header_of_a_run_over_nodes() -> None:
    script = run_script(Job("30", nodes=2, gpus="4", cpus=32), Site(), places(Path("/data")), ["--data=x"])
    assert directives(script)[:5] == [
        *("--job-name=grid", "--nodes=2", "--ntasks-per-node=1", "--time=30", "--gres=gpu:4")
    ]
    assert "--nproc-per-node 4 " in script
    assert "export OMP_NUM_THREADS=8\n" in script
    assert "ACCELERATE_USE_CPU" not in script
    assert "export ACCELERATE_USE_CPU=true\n" in run_script(Job("30"), Site(), places(Path("/data")), [])


def test_hostile_values_stand_quoted_in_the_header() -> None:
    script = sweep_script(Job("30"), Site(), places(Path("/a") / HOSTILE), ["x"], [])
    quoted = HOSTILE.replace("'", "'\"'\"'")
    assert f"--chdir='/a/{quoted}'" in directives(script)
    # In a file name, Slurm replaces %j; %% is one %.
    assert f"--output='/a/{quoted.replace('%', '%%')}/logs/%A_%a.log'" in directives(script)
    assert f"--comment='harness sweep /a/{quoted}'" in directives(script)


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x00", "\u2028"])
def test_a_value_that_would_break_its_line_is_refused(character: str) -> None:
    with pytest.raises(ConfigError, match="cannot contain"):
        sweep_script(Job("30"), Site(), places(Path(f"/a{character}#SBATCH --wrap=x")), ["x"], [])


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of Slurm's programs and of a Python that write their arguments to files there."""
    folder = tmp_path / "it's a stub"
    folder.mkdir()
    for name in ("python", "srun", "scontrol", "module"):
        write = "import json, os, sys; file = open(sys.argv[1] + str(os.getpid()), 'w'); json.dump(sys.argv[2:], file)"
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} -c "{write}" "{folder}/{name}-" "$@"\n')
    (folder / "squeue").write_text("#!/bin/sh\necho 2030-01-01T00:00:00\n")
    for file in folder.iterdir():
        file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "7", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("TZ", "UTC")
    return folder


def run_by_bash(script: str, folder: Path) -> int:
    return subprocess.run(["bash"], input=script, cwd=folder, text=True, check=False, timeout=30).returncode


def calls(stubs: Path, name: str) -> list[list[str]]:
    """Arguments of each call of a program."""
    return sorted(json.loads(path.read_text()) for path in stubs.glob(f"{name}-*"))


def test_hostile_words_arrive_in_bash_as_they_were(stubs: Path, tmp_path: Path) -> None:
    words = ["--keep=3", "--", f"--data={HOSTILE}\nsecond line", ""]
    site = Site(modules=(HOSTILE,), lines=("touch line",))
    script = sweep_script(Job("30"), site, places(tmp_path), [f"{HOSTILE}.yaml"], words)
    assert run_by_bash(script, tmp_path) == 0
    requeue, run = calls(stubs, "python")
    assert run == ["-m", "harness.cli", "sweep", "run", f"{HOSTILE}.yaml", "--end-by", "1893455880", *words]
    assert requeue[:5] == ["-m", "harness.cli", "slurm", "requeue", f"{HOSTILE}.yaml"]
    assert requeue[5:7] == ["--task", "7_2"]
    assert requeue[-2:] == ["--code", "0"]
    assert calls(stubs, "module") == [["load", HOSTILE]]
    assert (tmp_path / "line").exists()
    assert not (tmp_path / "broken").exists()


def test_a_site_whose_lines_stop_at_errors_still_queues_an_interrupted_worker_again(
    stubs: Path, tmp_path: Path
) -> None:
    interrupted = "#!/bin/bash\n[[ $* = *sweep\\ run* ]] && exit 143\ntouch requeued\n"
    (stubs / "python").write_text(interrupted)
    (stubs / "squeue").write_text("#!/bin/sh\nexit 1\n")  # also without an answer, and an end of its time
    script = sweep_script(Job("30"), Site(lines=("set -euo pipefail",)), places(tmp_path), ["x.yaml"], [])
    assert run_by_bash(script, tmp_path) == 143
    assert (tmp_path / "requeued").exists()


def test_hostile_words_arrive_in_a_run_over_nodes(stubs: Path, tmp_path: Path) -> None:
    words = [f"--data={HOSTILE}\nsecond line", ""]
    assert run_by_bash(run_script(Job("30", nodes=2), Site(), places(tmp_path), words), tmp_path) == 0
    [started] = calls(stubs, "srun")
    assert started[-2:] == words
    port = started[started.index("--master-port") + 1]
    assert port == str(20_007)
    # What srun starts on each node: bash, with the rank of the node.
    ended = subprocess.run(started[1:], env={**os.environ, "SLURM_NODEID": "1"}, check=False, timeout=30)
    assert ended.returncode == 0
    [node] = calls(stubs, "python")
    assert node[node.index("--node-rank") + 1] == "1"
    assert node[-2:] == words
    assert not (tmp_path / "broken").exists()


def harness(*words: str) -> Result:
    return CliRunner().invoke(main, ["slurm", *words])


def test_options_of_the_sweep_are_passed_on(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--epochs=2 --tags='a b'")
    file = write_sweep(tmp_path / "tiny.yaml", data_folder)
    printed = harness(
        *("script", "tiny.yaml", "--tasks", "2", "--time", "30", "--keep=2", "--workers", "3", "--seed", "0"),
        *("--", "--log-every=2"),
    )
    assert printed.exit_code == 0, printed.output
    runs = tmp_path / "runs"
    assert f"sweep=({file.name} --runs-dir={runs} --storage={runs}/tiny/journal.log)" in printed.output
    assert '"${fitting[@]}" --seed=0 --workers=3 --keep=2 -- --log-every=2 &\n' in printed.output
    assert "\nexport HARNESS_SWEEP_ARGS='--epochs=2 --tags='\"'\"'a b'\"'\"''\n" in printed.output
    assert list(tmp_path.iterdir()) == [file]


def test_a_database_takes_the_place_of_the_journal(data_folder: Path, tmp_path: Path) -> None:
    file = str(write_sweep(tmp_path / "tiny.yaml", data_folder))
    printed = harness("script", file, "--time", "30", "--storage", "postgresql+psycopg://me@host/name")
    assert "--storage=postgresql+psycopg://me@host/name)" in printed.output
    refused = harness("script", file, "--time", "30", "--storage", "sqlite:///x.db")
    assert refused.exit_code == 2
    assert "SQLite, which is unsafe" in refused.output


def test_all_problems_of_a_command_are_reported_together(data_folder: Path, tmp_path: Path) -> None:
    (site := Path("~/.config/vit-harness/slurm.toml").expanduser()).parent.mkdir(parents=True)
    site.write_text("modules = 1")
    file = str(write_sweep(tmp_path / "tiny.yaml", data_folder))
    ended = harness("script", file, "--time=4h", "--tasks=0", "--gpus=x", "--nodes=2", "--", "--lr=1", "--epochs=0")
    assert ended.exit_code == 2
    for problem in ("--time is '4h'", "--tasks is 0", "--gpus is 'x'", "--nodes is for one run", "`modules`", "--lr"):
        assert problem in ended.output, problem


def test_a_run_takes_no_options_of_a_sweep() -> None:
    ended = harness("script", "--train", "--time=30", "--keep=3", "--", "--data=x")
    assert (ended.exit_code, "--keep is an option of a sweep" in ended.output) == (2, True)
    ended = harness("script", "--train", "--time=30", "--tasks=3", "--", "x.yaml", "--data=x")
    assert ended.exit_code == 2
    assert "--tasks and --array-limit are for a sweep" in ended.output
    assert "x.yaml is not an option" in ended.output
    assert harness("script", "--time=30").exit_code == 2


def test_a_machine_without_slurm(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(write_sweep(tmp_path / "tiny.yaml", data_folder))
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = harness("submit", file, "--time=30", "--runs-dir", str(tmp_path / "runs"))
    assert ended.exit_code == 1
    assert "sbatch was not found" in ended.output
    assert len(ended.output.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# In place of `wandb`: an agent whose run needs a moment to save its state.
AGENT = """\
#!/bin/bash
trap 'sleep 0.3; touch saved; exit 7' TERM
echo "$@" > begun
while true; do sleep 0.05; done
"""


def test_the_guide_script_passes_the_warning_to_its_agent_and_waits_for_it(tmp_path: Path) -> None:
    script = tmp_path / "agents.sh"
    script.write_text(guide_script("team/zoo/abc"))
    assert {"--array=0-7", "--signal=B:TERM@120"} <= set(directives(script.read_text()))
    (tmp_path / "wandb").write_text(AGENT)
    (tmp_path / "wandb").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    task = subprocess.Popen(["bash", str(script)], cwd=tmp_path, env=environment)
    assert wait_for((tmp_path / "begun").exists, 30)
    assert wait_for(lambda: (tmp_path / "begun").read_text() == "agent team/zoo/abc\n", 30)
    task.terminate()  # as `--signal=B:TERM` does: the batch shell alone
    assert task.wait(30) == 7
    assert (tmp_path / "saved").exists()
