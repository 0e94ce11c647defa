"""Any single-cell matrix file to an expression store: cells × genes, normalised, AnnData on Zarr."""
