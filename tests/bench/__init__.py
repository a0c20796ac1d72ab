"""Benchmarks: `python -m tests.bench [NAME...]`. They measure and print; pass or fail is for the tests."""
