"""Reads and checks a sweep file."""
