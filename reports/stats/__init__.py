"""What many runs say: leaderboard, comparison, mistakes, position embeddings."""
