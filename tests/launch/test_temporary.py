"""The folder of temporary files: what lies in it, and when it is removed."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import SurroundingsError
from harness.launch.temporary import make_socket_folder, temporary_folder


@pytest.fixture(autouse=True)
def outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$TMPDIR of the process."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_temporary_files_lie_in_it_and_are_removed_with_it(outer: Path) -> None:
    with temporary_folder() as folder:
        assert folder.parent == outer
        made = Path(tempfile.mkdtemp())
        by_a_child = subprocess.run(["mktemp"], capture_output=True, text=True, check=True).stdout
        assert made.parent == Path(by_a_child).parent == folder
        with temporary_folder() as inner:
            assert inner == folder
        assert folder.is_dir()
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
    assert not list(outer.iterdir())
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(outer)


def test_a_process_below_has_a_folder_with_a_short_name(outer: Path) -> None:
    code = (
        "from harness.launch.temporary import temporary_folder\nwith temporary_folder() as folder:\n    print(folder)"
    )
    with temporary_folder() as folder:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        below = Path(done.stdout.strip())
        assert below.parent == folder and len(below.name) == 8
        assert not below.exists()


def test_sockets_have_a_short_path_where_that_of_tmpdir_is_long(tmp_path: Path) -> None:
    (long := tmp_path / ("long" * 20)).mkdir()
    code = (
        "import multiprocessing.util, tempfile\nfrom harness.launch.temporary import make_socket_folder\n"
        "make_socket_folder()\nprint(multiprocessing.util.get_temp_dir(), tempfile.gettempdir())"
    )
    environment = {**os.environ, "TMPDIR": str(long)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    sockets, temporary = map(Path, done.stdout.split())
    assert sockets.parent == Path("/tmp") and temporary == long
    assert not sockets.exists() and not list(long.iterdir())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_would_end_the_process_at_once_removes_it(outer: Path, signum: int) -> None:
    code = (
        "import os\nfrom harness.launch.temporary import temporary_folder\n"
        f"with temporary_folder():\n    os.kill(os.getpid(), {int(signum)})\n    print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signum, "", "")
    assert not list(outer.iterdir())


@pytest.mark.parametrize("use", [temporary_folder().__enter__, make_socket_folder])
def test_a_machine_without_a_usable_folder_is_an_error_in_words(
    use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
    with pytest.raises(SurroundingsError, match=r"temporary files \(No usable temporary directory.*\)\. Free"):
        use()
