"""Sweeps: one W&B sweep file, read and checked, and worked through on this machine without an account or a network."""
