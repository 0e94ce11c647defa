"""Readers of matrix files, one module a format."""
