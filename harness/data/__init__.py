"""From a folder of pictures to batches: find, check, decode once, augment, load."""
