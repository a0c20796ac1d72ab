"""Running trials: processes, resources, outcomes, progress."""
