"""Attention and position embeddings of a model: computed here as numbers, drawn in drawing/."""
