"""Fine-tune Vision Transformers, sweep their settings and look inside them."""

__version__ = "0.1.0"
