"""What many runs tell together. Reads run folders alone: no torch, no W&B, nothing of `harness`."""
