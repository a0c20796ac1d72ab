"""`harness doctor`: checks of this machine, each with a remedy."""
