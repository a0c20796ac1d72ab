"""The run folder and what a run writes into it."""
