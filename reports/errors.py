"""The error of reports, in the user's words."""

from harness.runs.rules import HarnessError


class ReportError(HarnessError):
    """A page or a W&B report that cannot be made."""
