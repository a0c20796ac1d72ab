"""The built-in data set and the small model that is pretrained on it."""
