"""Starting runs, and ending them with whoever started them."""
