"""From image stores to batches: folds, order, stream."""
