"""`harness doctor`: checks of this machine, each with a remedy."""

from harness.doctor.check import Check, render, to_json
from harness.doctor.examination import examine

__all__ = ["Check", "examine", "render", "to_json"]
