"""Checks of this machine, and what to do where one fails: `harness doctor`."""

from harness.doctor.check import Check, render, to_json
from harness.doctor.examination import examine

__all__ = ["Check", "examine", "render", "to_json"]
