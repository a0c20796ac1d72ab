"""Figures and pages of attention and position embeddings."""
