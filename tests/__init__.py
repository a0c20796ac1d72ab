"""Tests mirror the packages; what they share is in helpers/."""

from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the repository
