"""The training of the demo weights."""
