"""From scores to the edges of a network, and their files."""
