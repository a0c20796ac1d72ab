"""From a folder of images to batches: find, check, decode once, augment, load."""
