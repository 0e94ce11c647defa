"""Image store to classifier to network. Import the modules, not this package."""
