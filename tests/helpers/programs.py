"""A folder for PATH whose `accelerate` is the installed launcher without the imports of accelerate's other commands."""

from __future__ import annotations

import sys
from pathlib import Path

# The installed program imports all of accelerate's commands, which takes 4 s of processor time at each start.
ACCELERATE = f"""\
[ "$1" = launch ] && shift && exec "{sys.executable}" -m accelerate.commands.launch "$@"
exec "{sys.executable}" -m accelerate.commands.accelerate_cli "$@"
"""


def write_accelerate(folder: Path) -> Path:
    """Write the program into a folder, which is made; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "accelerate"
    program.write_text(f"#!/bin/sh\n{ACCELERATE}")
    program.chmod(0o755)
    return folder
