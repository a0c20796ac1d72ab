"""Which trials to run: grids, samplers, pruning, and the study that stores them."""
