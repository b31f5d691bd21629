"""The Python API: plan-and-apply clusters as objects of a Python session."""
