"""Commands that print the project's figures; each also runs once, small, as a test."""
