"""Scores that any joint counts have, in place of a network; light, as worker processes of tests import them."""

import numpy as np


def trend(counts, *_):
    """Correlation of the bins, from 0 to 1."""
    n, at = counts.sum((1, 2)), np.arange(counts.shape[1])
    mean = [(counts.sum(axis) @ at) / n for axis in (1, 2)]
    spread = [np.sqrt((counts.sum(axis) @ at**2) / n - m**2) for axis, m in zip((1, 2), mean, strict=True)]
    together = np.einsum("pba,b,a->p", counts, at, at) / n - mean[0] * mean[1]
    return (1 + together / np.maximum(spread[0] * spread[1], 1e-9)) / 2


def chi_square(counts, *_):
    """Distance from independence."""
    expected = counts.sum(1, keepdims=True) * counts.sum(2, keepdims=True) / counts.sum((1, 2), keepdims=True)
    return ((counts - expected) ** 2 / (expected + 0.25)).sum((1, 2))


def sums(counts, both_zero, gene_a, gene_b):
    """Of whole numbers, so that no order of adding changes it."""
    return counts[:, 1, :].sum(1) / 3 + both_zero + 7 * gene_a - gene_b


def load(name):
    """As a job loads its network on a worker: by a name."""
    return {"trend": trend, "chi-square": chi_square, "sums": sums, "screened": screened}[name]


def screened(counts, *_):
    """What a screen lets through."""
    score = chi_square(counts)
    return np.where(score > 60, score, np.nan)
