"""Slurm: batch scripts for sweeps and for runs over nodes, and the queue of jobs. Needs no accounting (sacct)."""
