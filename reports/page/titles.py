"""Titles of the sections, in the order in which a person asks; the page and the W&B report have the same ones."""

from __future__ import annotations

# By the section's id: that of its element on the page, and of links to it.
TITLES = {
    "leaderboard": "Leaderboard",
    "effects": "Hyperparameter effects",
    "curves": "Curves",
    "study": "Comparison with the study",
    "mistakes": "Mistakes",
    "gallery": "Attention gallery",
    "positions": "Position embeddings",
    "evidence": "What attention shows, tested",
    "use": "Use the best run",
    "provenance": "Provenance",
}
