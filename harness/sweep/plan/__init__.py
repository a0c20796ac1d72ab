"""What a sweep costs before it starts: trials, time, disk."""
