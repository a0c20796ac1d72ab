"""The error of reports, in the user's words."""

from __future__ import annotations


class ReportError(Exception):
    """A page that cannot be made, in the user's words."""
