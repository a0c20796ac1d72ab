"""In place of the imports of a trial."""
