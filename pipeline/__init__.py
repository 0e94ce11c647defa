"""Matrix to codes to heatmaps: everything up to the image store. Import the modules, not this package."""
