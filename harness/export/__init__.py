"""A run as files that other libraries open, and scores computed from those files."""
