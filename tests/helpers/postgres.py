"""A PostgreSQL server of the tests: its folder and its socket are private, and it ends with this process."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.launch.launch import die_with_parent
from tests.helpers.waiting import wait_for

# Not root: the server refuses that.
USER = "postgres"
# Where Debian keeps the server's programs, which are not in PATH.
VERSIONS = Path("/usr/lib/postgresql")


def why_not() -> str:
    """Why no server can be started here; empty if one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (extra postgres)"
    if _programs() is None:
        return "PostgreSQL's server is not installed: on Debian, apt-get install postgresql"
    try:
        pwd.getpwnam(_user())
    except KeyError:
        return f"there is no user {USER}, and the server refuses to run as root"
    return ""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start a server; gives the URL of an empty database for SQLAlchemy."""
    # Not in pytest's folder, which only its own user may enter; and a path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder, programs, user = Path(name), _programs(), _user()
        assert programs is not None
        shutil.chown(folder, user)
        as_user = {"user": user, "cwd": folder} if os.getuid() == 0 else {"cwd": folder}
        create = [programs / "initdb", "--pgdata", folder / "data", "--auth=trust", "--username=sweeps", "--no-sync"]
        subprocess.run(create, check=True, capture_output=True, **as_user)  # type: ignore[call-overload]
        options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        # SIGINT disconnects the clients; SIGTERM would wait for them.
        daemon = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=functools.partial(die_with_parent, signal.SIGINT, parent=os.getpid()),
            **as_user,  # type: ignore[call-overload]
        )
        try:
            answers = [programs / "pg_isready", "--host", folder, "--quiet"]
            assert wait_for(lambda: subprocess.run(answers, check=False).returncode == 0, 60)
            yield f"postgresql+psycopg://sweeps@/postgres?host={folder}"
        finally:
            daemon.send_signal(signal.SIGINT)
            daemon.wait(30)


def _user() -> str:
    return USER if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


def _programs() -> Path | None:
    """The folder of the server's programs."""
    if (initdb := shutil.which("initdb")) is not None:
        return Path(initdb).resolve().parent
    versions = {float(path.parent.parent.name): path.parent for path in VERSIONS.glob("*/bin/initdb")}
    return versions[max(versions)] if versions else None
