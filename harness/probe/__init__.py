"""What a linear classifier on frozen features gives: the baseline of every run, and the start of its head."""
