"""The job that scores candidate pairs with a trained network."""
