"""The same findings as a W&B report and workspace."""
