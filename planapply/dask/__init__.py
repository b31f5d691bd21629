"""The Dask side: handles of VMs, the executor, the scheduler client, and a robust SpecCluster."""
