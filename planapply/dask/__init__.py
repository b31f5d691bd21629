"""The Dask side: handles of VMs, the executor that awaits them, and SpecCluster without its traps."""
