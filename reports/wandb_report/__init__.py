"""The findings of the page as a W&B report and workspace."""
