"""Execute a notebook in place, like "Run all": `execute_notebook.py NOTEBOOK`, in the venv of the integrations."""

import sys

import nbformat
from nbclient import NotebookClient

path = sys.argv[1]
notebook = nbformat.read(path, as_version=4)
try:
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
finally:
    nbformat.write(notebook, path)
