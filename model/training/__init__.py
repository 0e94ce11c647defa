"""The job that trains a network, or several, and searches for recipes."""
