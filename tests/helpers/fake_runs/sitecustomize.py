"""In each Python process that has this folder in PYTHONPATH, trials of a sweep are fake runs: see fake_train.py.

Python imports this module when it starts (docs.python.org/3/library/site.html). A fake run needs no torch, so that a
worker costs one second of CPU time instead of ten, and 20 of them can be killed in a test.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

REPLACED = {"harness.train": "fake_train.py", "harness.sweep.execution.preload": "nothing.py"}


class FakeRuns(MetaPathFinder):
    """Finds the replacements before Python finds the real modules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in REPLACED:
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name(REPLACED[name]))


sys.meta_path.insert(0, FakeRuns())
