"""Codes and candidate pairs to the image store: one joint histogram a pair."""
