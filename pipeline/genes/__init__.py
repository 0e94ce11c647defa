"""Gene names, lists of genes, candidate pairs and their labels; pure."""
