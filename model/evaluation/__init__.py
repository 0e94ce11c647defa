"""What scores are worth: metrics, baselines, bootstrap, comparison with the training data."""
