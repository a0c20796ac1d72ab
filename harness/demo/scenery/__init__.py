"""What the built-in scenes are made of."""
