"""A trial queue that is damaged, lost or full: `status`, `stop` and `run` end with one sentence and the remedy."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import HarnessError
from harness.sweep.search.ledger_errors import check_sweep_folder, ledger_errors_in_words, ledger_file
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.sweeping import write_sweep

COMMANDS = ("status", "stop", "run", "retry", "skip")
STORAGES = ("default", "journal")


def begun(tmp_path: Path, data_folder: Path, storage: str) -> tuple[Path, Path, list[str]]:
    """A sweep with one run folder: its file, its ledger, and the options that name both."""
    file = write_sweep(tmp_path / "tiny.yaml", data_folder)
    folder = tmp_path / "runs" / "tiny"
    journal = str(tmp_path / "journal.log") if storage == "journal" else None
    (folder / "lr-0").mkdir(parents=True)
    TrialQueue.open(read_sweep(file), Search(), folder, journal)
    (folder / "lr-0" / "manifest.json").write_text("{}")
    options = [str(file), "--runs-dir", str(tmp_path / "runs"), *(["--storage", journal] if journal else [])]
    return file, Path(journal or folder / "study.db"), options


def error_of(command: str, options: list[str]) -> str:
    extra = ["--failed"] if command == "retry" else ["1"] if command == "skip" else []
    result = CliRunner().invoke(main, ["sweep", command, *options, *extra])
    assert result.exit_code == 1, result.output
    [line] = [line for line in result.output.splitlines() if line]
    return line


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_ledger_is_one_sentence_with_the_remedy(
    command: str, storage: str, data_folder: Path, tmp_path: Path
) -> None:
    _, ledger, options = begun(tmp_path, data_folder, storage)
    content = ledger.read_bytes()
    ledger.write_bytes(b"\n{not a ledger}\n" * 300)
    assert "is damaged" in (line := error_of(command, options)) and "harness sweep rebuild" in line
    # Damage in the middle, which opening it does not show.
    start = min(3000, len(content) // 3)
    ledger.write_bytes(content[:start] + b"\xff\n" * (len(content) // 2 - start // 2))
    assert "is damaged" in (line := error_of(command, options)) and "harness sweep rebuild" in line


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_lost_ledger_is_not_replaced_by_an_empty_one(
    command: str, storage: str, data_folder: Path, tmp_path: Path
) -> None:
    file, ledger, options = begun(tmp_path, data_folder, storage)
    ledger.unlink()
    line = error_of(command, options)
    assert f"holds 1 run, but the trial queue of the sweep tiny, {ledger}, is missing" in line
    assert line.endswith(f"harness sweep rebuild {file}. To start over instead, move the folder away.")
    assert not ledger.exists()


def test_a_sweep_without_runs_may_begin(data_folder: Path, tmp_path: Path) -> None:
    file, ledger, _ = begun(tmp_path, data_folder, "default")
    check_sweep_folder(read_sweep(file), ledger.parent, None)
    ledger.unlink()
    (ledger.parent / "lr-0" / "manifest.json").unlink()
    check_sweep_folder(read_sweep(file), ledger.parent, None)


def test_a_full_database_is_not_called_damaged() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 2")
    database.execute("CREATE TABLE t (x)")
    refusal = pytest.raises(HarnessError, match=r"cannot be read or written \(database or disk is full\)")
    with refusal, ledger_errors_in_words(Path("grid.yaml")):
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")


@pytest.mark.parametrize("cause", [TimeoutError(), None])
def test_an_error_without_a_message_has_its_name(cause: Exception | None) -> None:
    name = "TimeoutError" if cause else "StorageInternalError"
    with pytest.raises(HarnessError, match=rf"\({name}\)"), ledger_errors_in_words(Path("grid.yaml")):
        raise optuna.exceptions.StorageInternalError from cause


def test_the_file_of_a_ledger(tmp_path: Path) -> None:
    assert ledger_file(tmp_path, None) == tmp_path / "study.db"
    assert ledger_file(tmp_path, "sqlite:////data/a.db") == Path("/data/a.db")
    assert ledger_file(tmp_path, "/data/journal.log") == Path("/data/journal.log")
    assert ledger_file(tmp_path, "postgresql+psycopg://me@host/sweeps") is None


def test_a_sweep_that_another_runner_begins_at_this_moment_is_not_lost(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It creates the queue, then a run, after this runner has looked for the queue and before it looks for runs."""
    sweep, folder, glob = read_sweep(write_sweep(tmp_path / "tiny.yaml", data_folder)), tmp_path / "tiny", Path.glob

    def begin_elsewhere(path: Path, pattern: str) -> list[Path]:
        (folder / "lr-0").mkdir(parents=True)
        TrialQueue.open(sweep, Search(), folder, None)
        (folder / "lr-0" / "manifest.json").write_text("{}")
        return list(glob(path, pattern))

    monkeypatch.setattr(Path, "glob", begin_elsewhere)
    check_sweep_folder(sweep, folder, None)
    assert (folder / "lr-0" / "manifest.json").exists()
