"""Vision Transformers by name, and the weights they start from."""
