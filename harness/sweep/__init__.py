"""Sweeps: reads a W&B sweep file and runs its trials on this machine, without an account or a network."""
