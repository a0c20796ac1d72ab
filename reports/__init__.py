"""What many runs tell together. Reads run folders, or W&B by a client that it is given; needs no torch, no harness."""
