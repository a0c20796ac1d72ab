"""The cost of a sweep before it starts: trials, time, disk."""
