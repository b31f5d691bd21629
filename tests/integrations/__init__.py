"""The venv of `make integrations`: planapply beside JupyterLab, Prefect, Dagster, and what else users run."""

from pathlib import Path

PYTHON = Path(__file__).parents[2] / ".venv-integrations" / "bin" / "python"


def python() -> Path:
    """Return the interpreter of that venv; raise if it is missing, since no test installs anything."""
    if not (PYTHON.parents[1] / ".stamp").exists():
        raise RuntimeError("the integrations are not installed; run `make integrations`")
    return PYTHON
