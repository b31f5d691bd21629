"""The Dask side, and the only importer of distributed."""
