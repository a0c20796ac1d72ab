"""Attention of a model, captured and measured."""
