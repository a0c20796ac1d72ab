"""Statistics of many runs: leaderboard, comparison, mistakes, position embeddings."""
