"""Clusters, tasks, memory, progress and events: the wing that knows Dask."""
