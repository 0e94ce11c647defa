"""Options that decide bytes."""

from pairscape.pipeline.options import Stream


def test_numbers_of_random_streams_never_change():
    """Stores and runs that were made before would not be made again by the same seed."""
    assert {name: int(stream) for name, stream in Stream.__members__.items()} == {
        "CELL_HALVES": 1, "FOLDS": 2, "BASELINES": 3, "VALIDATION_ROWS": 4, "THRESHOLD_ROWS": 5,
        "MATCHED_FOLDS": 6, "MEAN_IMAGES": 6, "NEGATIVES": 6, "EXAMPLES": 7, "PLANTING": 7, "STORE_HALVES": 8,
        "GENE_BOOTSTRAP": 9, "SHIFT_SAMPLE": 9, "REFERENCE_GENES": 10, "CELL_GROUPS": 11, "SCREEN_SAMPLE": 11,
        "RANDOM_PAIRS": 12, "RESAMPLES": 12, "DEPTH_TIES": 13, "DECOY_CELLS": 14, "DECOY_PAIRS": 15,
        "PLANTING_CHOICES": 16,
        "DEPTH_NULL": 17, "GOLD_PAIRS": 18, "DEALT_GROUPS": 19, "DEALT_PAIRS": 20,
    }  # fmt: skip
