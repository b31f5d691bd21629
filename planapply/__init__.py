"""Terraform-like plan/apply for Dask clusters on cloud VMs."""

__version__ = "0.1.0"
