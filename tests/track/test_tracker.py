"""The tracker against a local stand-in for W&B's server: what it sends, and what happens on failures."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from harness import track
from harness.config import RunConfig
from harness.time_limit import waiting_reported
from harness.track import offline
from harness.track.settings import seconds_of, wandb_settings
from tests import ROOT
from tests.helpers.forked import run_captured
from tests.helpers.waiting import wait_for
from tests.helpers.wandb_server import API_KEY, WandbServer

# One training process. Its last line of output holds facts about the tracker.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from harness import track
from harness.config import RunConfig
from harness.track import tracker as tracker_module

folder, first, last, ending = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
tracker_module.ANSWER_TIMEOUT = float(os.environ.get("ANSWER_TIMEOUT", 100))
if ending == "stop":  # wandb asks every 15 s
    import asyncio
    from wandb.sdk.lib import run_stopping
    run_stopping._SLEEP = lambda seconds: asyncio.sleep(0.1)
config = RunConfig(data="images", recipe="study", **json.loads(os.environ.get("OPTIONS", "{}")))
tracker = track.start(config, folder, run_id="run-1", extra_config={"classes": 3})
for step in range(first, last):
    loss = float("nan") if step == 1 else 1 / (step + 1)
    tracker.log({"step": 10 * step, "epoch": step / 2, "train/loss": loss, "train/lr": None if step == 2 else 1e-5})
if ending in ("kill", "core"):
    # Wait until the rows are on disk. Each row holds wandb's own step, and so does the summary that follows it.
    while (tracker.offline_folder / "run-run-1.wandb").read_bytes().count(b"_step") < 2 * (last - first):
        time.sleep(0.05)
if ending == "kill":
    os.kill(os.getpid(), 9)
if ending == "core":
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    [core] = [int(child) for child in children if "wandb-core" in Path(f"/proc/{child}/comm").read_text()]
    os.kill(core, 9)
if ending == "pause":
    print("paused", flush=True)
    sys.stdin.readline()
    tracker.log({"step": 10 * last, "epoch": last / 2, "train/loss": 0.125})
if ending == "stop":
    while not tracker.stop_requested:
        time.sleep(0.05)
    tracker.preempting()
tracker.dataset("my images!", {"fingerprint": "f00d", "classes": 3})
tracker.log({"step": 10 * last, "epoch": last / 2, "val/loss": 0.5, "val/f1": 0.25})
tracker.image("figures/loss", folder / "figures" / "loss.png")
tracker.table("test/predictions", ["file", "probability"], [["a.jpg", 0.5], ["b.jpg", 0.25]])
tracker.summarize({"best/epoch": 2, "best/val_f1": 0.25, "test/f1": None})
tracker.model(
    folder / "checkpoints" / "best.safetensors", name="model-run-1", metadata={"data": "f00d"}, description="best of 2"
)
tracker.finish(143 if ending == "stop" else 0)
print(json.dumps({"mode": tracker.mode, "url": tracker.url, "cwd": os.getcwd()}))
"""


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """wandb, once for all processes that are forked from this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.setenv("WANDB_ERROR_REPORTING", "0")
        track.preload()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has never used W&B."""
    (tmp_path / "home").mkdir()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "XDG_", "NETRC"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **inherited,
        "HOME": str(tmp_path / "home"),
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "WANDB_ERROR_REPORTING": "0",
        "WANDB_INIT_TIMEOUT": "100",
    }


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[WandbServer]:
    with WandbServer() as server:
        environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY}
        yield server
    assert server.refused == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "a run-1"
    for name in ("checkpoints", "figures"):
        (folder / name).mkdir(parents=True)
    (folder / "checkpoints" / "best.safetensors").write_bytes(bytes(range(256)) * 100)
    Image.new("RGB", (8, 8), "red").save(folder / "figures" / "loss.png")
    return folder


def forked(environment: dict[str, str], *arguments: object, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    """The program in a process that is forked from this one, which has imported all that it needs."""

    def work() -> None:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(environment["HOME"])
        sys.argv = ["-c", *map(str, arguments)]
        exec(program, {"__name__": "__main__"})

    return run_captured("program", work, 120)


def run(environment: dict[str, str], *arguments: object, program: str = PROGRAM) -> list[str]:
    """Lines that the program prints, except "Waiting ..."; it must not write to stderr."""
    done = forked(environment, *arguments, program=program)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if not line.startswith("Waiting ")]


def assert_everything_arrived(server: WandbServer, folder: Path) -> None:
    """Compare everything that PROGRAM logs after its rows with what the server received."""
    [received] = server.runs.values()
    assert (received.name, received.fields["jobType"], received.exit_code) == ("run-1", "train", 0)
    assert (received.config["lr"], received.config["batch_size"], received.config["classes"]) == (1e-5, 16, 3)
    assert (received.summary["best/val_f1"], received.summary["best/epoch"]) == (0.25, 2)
    assert "test/f1" not in received.summary

    assert received.summary["train/loss"] == training_rows(server)[-1][1]
    assert received.summary["step"] == max(row["step"] for row in received.history)

    [figure] = [row["figures/loss"] for row in received.history if "figures/loss" in row]
    assert received.files[figure["path"]] == (folder / "figures" / "loss.png").read_bytes()
    [row] = [row for row in received.history if "test/predictions" in row]
    assert row["step"] == received.summary["step"]
    content = json.loads(received.files[row["test/predictions"]["path"]])
    assert (content["columns"], content["data"]) == (["file", "probability"], [["a.jpg", 0.5], ["b.jpg", 0.25]])
    [table_artifact] = [artifact for artifact in server.artifacts if artifact.type == "run_table"]
    assert json.loads(table_artifact.files["test/predictions.table.json"])["data"] == content["data"]

    [model] = server.versions("model-run-1")
    assert (model.type, model.creator, model.aliases) == ("model", "run-1", {"best", "latest"})
    assert (model.metadata, model.description) == ({"data": "f00d"}, "best of 2")
    assert model.files == {"best.safetensors": (folder / "checkpoints" / "best.safetensors").read_bytes()}
    assert list(model.manifest["contents"]) == ["best.safetensors"]
    [dataset] = server.versions("my-images")
    assert (dataset.type, dataset.metadata) == ("dataset", {"fingerprint": "f00d", "classes": 3})
    assert json.loads(dataset.files["dataset.json"]) == dataset.metadata


def training_rows(server: WandbServer) -> list[tuple[int, float]]:
    return [(row["step"], row["train/loss"]) for row in server.runs["run-1"].history if "train/loss" in row]


def test_an_online_run_arrives_completely(environment: dict[str, str], server: WandbServer, folder: Path) -> None:
    *lines, last = run(environment, folder, 0, 4, "finish")
    url = f"{server.url}/team/vit-harness/runs/run-1"
    assert lines == [f"W&B: {url}"]
    assert json.loads(last) == {"mode": "online", "url": url, "cwd": environment["HOME"]}

    assert_everything_arrived(server, folder)
    received = server.runs["run-1"]
    assert (received.project, received.fields["displayName"]) == ("vit-harness", "lr1e-05_bs16_none_s0")
    assert [artifact.collection for artifact in received.used] == ["my-images"]
    assert received.history[0]["train/lr"] == 1e-5
    assert "train/lr" not in received.history[2]
    first, (second_step, second_loss), *others = training_rows(server)
    assert (first, second_step, others) == ((0, 1), 10, [(20, 1 / 3), (30, 1 / 4)])
    assert math.isnan(second_loss)
    # The checkpoint was not copied, neither outside the run folder nor inside it.
    copies = [path for path in folder.parents[1].rglob("*") if path.is_file() and path.stat().st_size == 25600]
    assert copies == [folder / "checkpoints" / "best.safetensors"]


def test_a_killed_resumed_and_copied_offline_run_arrives_completely(
    environment: dict[str, str], server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment |= {"WANDB_MODE": "offline"}
    killed = forked(environment, folder, 2, 4, "kill")
    assert killed.returncode == -signal.SIGKILL
    [line, _] = run(environment, folder, 4, 6, "finish")
    assert line.startswith("W&B is set to offline. The run is kept offline; to send it: cd '")
    assert server.operations == []

    copy = folder.parents[1] / "elsewhere" / "copy"
    shutil.copytree(folder, copy, symlinks=True)
    shutil.rmtree(folder)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_BASE_URL", "WANDB_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    assert track.sync(copy) == 0
    assert_everything_arrived(server, copy)
    assert training_rows(server) == [(20, 1 / 3), (30, 1 / 4), (40, 1 / 5), (50, 1 / 6)]

    # Again, nothing is sent: wandb marks files that it has sent.
    rows = len(server.runs["run-1"].history)
    assert track.sync(copy) == 0
    assert len(server.runs["run-1"].history) == rows


def test_a_server_that_fails_during_a_run_loses_nothing(
    environment: dict[str, str], server: WandbServer, folder: Path
) -> None:
    environment |= {"WANDB_FINISH_TIMEOUT": "2", "ANSWER_TIMEOUT": "2"}
    command = [sys.executable, "-c", PROGRAM, str(folder), "2", "4", "pause"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            while "paused" not in process.stdout.readline():
                pass
            server.stop()
            output, _ = process.communicate("continue\n", timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0
    lines = [line for line in output.splitlines() if not line.startswith("Waiting ")]
    error, hint, _ = lines
    assert error.startswith("W&B: ")
    assert error.endswith(f". The run continues; everything is in {folder}.")
    assert server.artifacts == []

    server.start()
    sentence, command_line = hint.split("To send the rest: ")
    assert sentence == "W&B did not receive everything. "
    subprocess.run(command_line, shell=True, env=environment, check=True, capture_output=True, timeout=120)
    assert_everything_arrived(server, folder)
    assert training_rows(server) == [(20, 1 / 3), (30, 1 / 4), (40, 0.125)]


def test_the_death_of_wandbs_service_process_loses_nothing_logged_before(
    environment: dict[str, str], server: WandbServer, folder: Path
) -> None:
    """The kernel kills it like this if memory runs out. Earlier rows and the checkpoint arrive later."""
    variables = {"WANDB_MODE": "offline", "ANSWER_TIMEOUT": "2"}
    error, hint, _ = run(environment | variables, folder, 2, 4, "core")[1:]
    assert error.startswith("W&B: ")
    command_line = hint.removeprefix("W&B did not receive everything. To send the rest: ")
    subprocess.run(command_line, shell=True, env=environment, check=True, capture_output=True, timeout=120)
    assert training_rows(server) == [(20, 1 / 3), (30, 1 / 4)]
    assert server.runs["run-1"].summary["best/val_f1"] == 0.25
    assert list(server.versions("model-run-1")[0].files) == ["best.safetensors"]


def test_without_login_or_server_one_line_is_printed(environment: dict[str, str], folder: Path) -> None:
    """Five runs in one process, one after the other."""
    program = """
import os, sys
from pathlib import Path
from harness import track
from harness.config import RunConfig

key = "0" * 40
for case in (
    {"name": "no-login"},
    {"name": "bad-key", "WANDB_API_KEY": "short"},
    {"name": "no-server", "WANDB_API_KEY": key, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "2"},
    {"name": "netrc", "NETRC": sys.argv[2], "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "2"},
    {"name": "disabled", "WANDB_MODE": "disabled"},
):
    name = case.pop("name")
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    os.environ |= case
    tracker = track.start(RunConfig(data="images"), folder, run_id=name)
    if tracker:
        tracker.log({"step": 1, "train/loss": 1.0})
        tracker.dataset("images", {})
        tracker.finish(0)
    print(name, tracker and tracker.mode, sorted(path.name for path in folder.glob("wandb/offline-run-*/*.wandb")))
    for variable in case:
        del os.environ[variable]
"""
    netrc = Path(environment["HOME"]) / "netrc"
    netrc.write_text(f"machine 127.0.0.1:9 login user password {API_KEY}\n")
    lines = run(environment, folder, netrc, program=program)
    hint = f". The run is kept offline; to send it: cd '{folder}/"
    assert lines[0].startswith(f"Not logged in to W&B (`wandb login`){hint}no-login' && wandb sync wandb/offline-run-")
    assert lines[1] == "no-login offline ['run-no-login.wandb']"
    assert lines[2].startswith("Logging in to W&B failed: WANDB_API_KEY invalid: ")
    assert f"{hint}bad-key'" in lines[2]
    assert lines[3] == "bad-key offline ['run-bad-key.wandb']"
    for index, name in ((4, "no-server"), (6, "netrc")):
        assert lines[index].startswith("W&B failed in online mode (")
        assert f"{hint}{name}'" in lines[index]
        assert lines[index + 1] == f"{name} offline ['run-{name}.wandb']"
    assert lines[8:] == ["disabled None []"]
    assert list((folder / "disabled").iterdir()) == []


def test_variables_apply_and_options_take_precedence(
    environment: dict[str, str], server: WandbServer, folder: Path
) -> None:
    program = """
import os, sys
from pathlib import Path
from harness import track
from harness.config import RunConfig

def run(run_id, variables, **options):
    os.environ |= variables
    config = RunConfig(data="images", recipe="study", **options)
    tracker = track.start(config, Path(sys.argv[1]) / "run", run_id=run_id, say=lambda line: None)
    tracker.finish(0)
    for variable in variables:
        del os.environ[variable]

chosen = {
    "WANDB_PROJECT": "zoo", "WANDB_ENTITY": "friends", "WANDB_NAME": "zebra", "WANDB_RUN_GROUP": "stripes",
    "WANDB_TAGS": "a,b", "WANDB_JOB_TYPE": "trial", "WANDB_NOTES": "why", "WANDB_DIR": sys.argv[1] + "/mine",
}
run("variables", chosen)
run("options", chosen, project="farm", name="cow", group="brown", tags="c, d")
agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "of-agent", "WANDB_PROJECT": "swept", "WANDB_ENTITY": "team"}
agent |= {"WANDB_SWEEP_PARAM_PATH": sys.argv[1] + "/swept.yaml", "WANDB_DIR": sys.argv[1] + "/agent"}
run("ours", agent, project="ignored", lr=0.5)
"""
    server.add_sweep("sweep1")
    (folder / "swept.yaml").write_text("wandb_version: 1\nlr:\n  value: 0.5\n")
    assert run(environment, folder, program=program) == []
    by_variables, by_options, swept = server.runs["variables"], server.runs["options"], server.runs["of-agent"]
    assert set(server.runs) == {"variables", "options", "of-agent"}

    def fields_of(received: Any) -> tuple[Any, ...]:
        labels = (received.fields.get(key) for key in ("displayName", "groupName", "tags", "jobType", "notes"))
        return (received.entity, received.project, *labels)

    assert fields_of(by_variables) == ("friends", "zoo", "zebra", "stripes", ["a", "b"], "trial", "why")
    assert fields_of(by_options) == ("friends", "farm", "cow", "brown", ["c", "d"], "trial", "why")
    assert fields_of(swept) == ("team", "swept", "lr=0.5_s0", None, None, "train", None)
    assert (swept.fields["sweep"], swept.config["lr"], swept.config["batch_size"]) == ("sweep1", 0.5, 16)
    # WANDB_DIR applies if a user has set it. An agent always sets it; its runs keep their files in the run folder.
    assert len(list((folder / "mine" / "wandb").glob("run-*"))) == 2
    assert len(list((folder / "run" / "wandb").glob("run-*"))) == 1
    assert not (folder / "agent").exists()


def test_a_trial_of_a_sweep_that_the_server_does_not_know_is_sent_as_part_of_a_group(
    environment: dict[str, str], server: WandbServer, folder: Path
) -> None:
    """The server refuses runs of unknown sweeps, so that none would appear."""
    program = """
import sys
from pathlib import Path
from harness import track
from harness.config import RunConfig

config = RunConfig(data="images", project="farm")
tracker = track.start(config, Path(sys.argv[1]), run_id="5eed-0", say=lambda line: None)
print(tracker.mode)
tracker.finish(0)
"""
    trial = {"WANDB_SWEEP_ID": "5eed", "HARNESS_SWEEP": "grid", "WANDB_RUN_GROUP": "grid", "WANDB_RUN_ID": "5eed-0"}
    assert run(environment | trial, folder, program=program) == ["online"]
    received = server.runs["5eed-0"]
    assert (received.sweep, received.project, received.fields["groupName"]) == (None, "farm", "grid")
    assert received.config["sweep"] == "grid"


def test_an_offline_trial_of_an_earlier_version_is_sent_as_part_of_a_group(
    environment: dict[str, str], server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log names a sweep of this program as one of W&B; HARNESS_SWEEP was not set then."""
    program = """
import sys
from pathlib import Path
from harness import track
from harness.config import RunConfig

tracker = track.start(RunConfig(data="images"), Path(sys.argv[1]), run_id="0ab1c2d3-4", say=lambda line: None)
tracker.log({"step": 1, "train/loss": 0.5})
tracker.finish(0)
"""
    trial = {"WANDB_SWEEP_ID": "0ab1c2d3", "WANDB_RUN_GROUP": "grid", "WANDB_RUN_ID": "0ab1c2d3-4"}
    run(environment | trial | {"WANDB_MODE": "offline"}, folder, program=program)
    for name in ("HOME", "WANDB_BASE_URL", "WANDB_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("WANDB_MODE")
    track.send(folder)
    received = server.runs["0ab1c2d3-4"]
    assert (received.sweep, received.fields["groupName"], received.exit_code) == (None, "grid", 0)
    assert [row["train/loss"] for row in received.history] == [0.5]


def test_stop_button_sets_a_flag(environment: dict[str, str], server: WandbServer, folder: Path) -> None:
    server.stop_asked.add("run-1")
    run(environment, folder, 0, 1, "stop")
    assert (server.runs["run-1"].exit_code, server.runs["run-1"].preempting) == (143, True)
    assert len(server.versions("model-run-1")) == 1


def test_the_server_of_a_sweep_is_asked_whether_it_stopped_the_run(
    environment: dict[str, str], server: WandbServer, folder: Path
) -> None:
    """A run outside sweeps, a run to continue, a stopped run, and a run whose server has failed."""
    program = """
import os, sys
from pathlib import Path
from harness import track
from harness.config import RunConfig
from harness.track import tracker as tracker_module

def print_answer(run_id):
    tracker = track.start(RunConfig(data="images"), Path(sys.argv[1]), run_id=run_id, say=lambda line: None)
    tracker_module.SHUTDOWN_TIMEOUT = 1 if run_id == "cut-off" else 100
    print("started", flush=True)
    sys.stdin.readline()
    print(tracker.asked_to_stop(), flush=True)
    tracker.finish(0)

print_answer("plain")
os.environ["WANDB_SWEEP_ID"] = "sweep1"
for run_id in ("running", "stopped", "cut-off"):
    os.environ["WANDB_RUN_ID"] = run_id
    print_answer(run_id)
"""
    server.add_sweep("sweep1")
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(
        command,
        env=environment | {"WANDB_FINISH_TIMEOUT": "2"},
        cwd=environment["HOME"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            answers = []
            for number in range(4):
                assert process.stdout.readline() == "started\n"
                if number == 2:
                    server.stop_asked.add("stopped")  # wandb itself polls only every 15 s
                if number == 3:
                    server.stop()
                process.stdin.write("continue\n")
                process.stdin.flush()
                answers.append(process.stdout.readline().strip())
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert answers == ["False", "False", "True", "False"]
    assert server.operations.count("RunStoppedStatus") == 2


def test_what_wandb_does_not_accept_is_a_usage_error(environment: dict[str, str], folder: Path) -> None:
    """wandb.init refuses it in every mode: the whole run would be without W&B."""
    program = """
import os, sys
from pathlib import Path
from harness import track
from harness.config import RunConfig
from harness.errors import ConfigError

for variables, options in (
    ({"WANDB_MODE": "onlin"}, {}),
    ({"WANDB_PROJECT": "team/zoo"}, {}),
    ({}, {"project": "team/zoo"}),
    ({}, {"tags": "short, " + "long" * 20}),
):
    os.environ |= variables
    try:
        track.start(RunConfig(data="images", **options), Path(sys.argv[1]), run_id="x", say=lambda line: None)
    except ConfigError as error:
        print(" ".join(str(error).split()))
    for variable in variables:
        del os.environ[variable]
"""
    lines = run(environment | {"WANDB_MODE": "offline"}, folder, program=program)
    for line, value in zip(lines, ("onlin", "'team/zoo'", "'team/zoo'", "80 characters"), strict=True):
        assert line.startswith("W&B does not accept a value of --project, --tags, a WANDB_* variable") and value in line


def test_a_run_that_wandb_cannot_open_in_any_mode_continues_without_it(
    environment: dict[str, str], folder: Path
) -> None:
    program = """
import sys
from pathlib import Path
import wandb
from harness import track
from harness.config import RunConfig

def init(mode, **keywords):
    raise OSError(f"cannot be opened {mode}")

wandb.init = init
print(track.start(RunConfig(data="images"), Path(sys.argv[1]), run_id="x"))
"""
    assert run(environment | {"WANDB_MODE": "offline"}, folder, program=program) == [
        "W&B failed in offline mode (cannot be opened offline); W&B failed in disabled mode (cannot be opened disabled)"
        ". The run continues without W&B.",
        "None",
    ]


class BrokenRun:
    """A wandb run whose methods raise errors."""

    settings = SimpleNamespace(sync_dir="/nowhere/wandb/run-1")
    url = "http://somewhere"
    summary: dict[str, Any]

    def log(self, row: dict[str, Any]) -> None:
        raise ConnectionResetError("service is gone\nsecond line")

    def mark_preempting(self) -> None:
        raise ConnectionResetError("service is gone")


def test_only_the_first_error_of_wandb_is_printed(tmp_path: Path) -> None:
    lines: list[str] = []
    tracker = track.Tracker(
        lambda mode: BrokenRun(), "online", folder=tmp_path, stop=threading.Event(), say=lines.append
    )
    tracker.log({"step": 1})
    tracker.log({"step": 2})
    tracker.summarize({"best/epoch": 1})
    tracker.preempting()
    assert lines == [f"W&B: service is gone. The run continues; everything is in {tmp_path}."]


class SilentRun(BrokenRun):
    """A wandb run whose server does not answer."""

    requests = 0

    def log(self, row: dict[str, Any]) -> None:
        SilentRun.requests += 1
        raise TimeoutError("no answer within 30 s")


def test_a_time_limit_passes_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track.Tracker, "_log_table", lambda tracker, *_: tracker._run.log({}))
    tracker = track.Tracker(
        lambda mode: SilentRun(), "online", folder=tmp_path, stop=threading.Event(), say=lambda line: None
    )
    for _ in range(3):
        tracker.table("test/predictions", ["file"], [])
    assert SilentRun.requests == 1
    assert len(tracker._failed_artifacts) == 3


def test_time_limits_are_short_and_variables_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    settings = wandb_settings(threading.Event())
    assert (settings.init_timeout, settings.finish_timeout) == (10, 30)
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "7")
    assert seconds_of("WANDB_FINISH_TIMEOUT", 30) == 7


def test_waiting_is_reported_only_after_a_while() -> None:
    lines: list[str] = []
    with waiting_reported(lines.append, "short", 600):
        pass
    with waiting_reported(lines.append, "long", 0.01):
        assert wait_for(lambda: lines, 60)
    assert lines == ["long"]


def test_importing_the_module_does_not_import_wandb(environment: dict[str, str]) -> None:
    code = "import harness.track, sys; print('wandb' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "False\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [("100 Sports (v2)", "100-Sports-v2"), ("été/été", "t-t"), ("///", "unnamed"), ("a" * 200, "a" * 128)],
)
def test_artifact_names(text: str, name: str) -> None:
    assert track.artifact_name(text) == name


def test_a_killed_sync_has_the_exit_code_that_a_shell_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative one would count as less than that of a run that was sent."""
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    monkeypatch.setattr(offline, "_command", lambda folder, kept: ["sh", "-c", "kill -9 $$"])
    assert track.sync(tmp_path) == 128 + signal.SIGKILL


def test_the_sync_command_is_quoted_for_a_shell() -> None:
    root = Path("/runs/it's mine")
    offline, online = root / "wandb" / "offline-run-1", root / "wandb" / "run-1"
    assert track.sync_command(root, [offline]) == """cd '/runs/it'"'"'s mine' && wandb sync wandb/offline-run-1"""
    assert track.sync_command(Path("/r"), [Path("/r/wandb/run-1"), Path("/r/wandb/offline-run-2")]) == (
        "cd /r && wandb sync --include-online wandb/run-1 wandb/offline-run-2"
    )
    assert "--include-online" in track.sync_command(root, [online])


def test_default_project_is_named_after_the_harness() -> None:
    assert track.PROJECT == "vit-harness"
    assert RunConfig(data="images").project is None
