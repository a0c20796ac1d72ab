"""Many runs together. Reads run folders, or W&B by a client that it is given; needs neither torch nor wandb."""
