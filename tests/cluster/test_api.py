"""The public names of planapply, which are imported on first use."""

import subprocess
import sys

import pytest

import planapply


def imported(code: str) -> set[str]:
    """Return the heavy modules that a fresh interpreter has imported after running this code."""
    heavy = "{'asyncio', 'boto3', 'cryptography', 'distributed', 'pydantic', 'typer'}"
    code += f"\nimport sys; print(*({heavy} & sys.modules.keys()))"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_importing_planapply_imports_nothing() -> None:
    assert imported("import planapply; planapply.__version__") == set()


def test_dir_imports_nothing() -> None:
    assert imported("import planapply; dir(planapply)") == set()


def test_loading_a_spec_needs_no_dask() -> None:
    assert imported("from planapply import load_spec") & {"distributed", "boto3"} == set()


def test_public_names_exist() -> None:
    assert planapply.__all__ == [
        "ApplyIncomplete",
        "ApplyReport",
        "Cluster",
        "GroupAdaptive",
        "PlanapplyError",
        "VMScheduler",
        "VMWorker",
        "__version__",
        "apply",
        "connect",
        "destroy",
        "load_spec",
        "open_cluster",
        "plan",
        "security_loader",
    ]
    assert dir(planapply) == planapply.__all__
    for name in planapply.__all__:
        assert getattr(planapply, name)


def test_catching_an_error_needs_no_dask() -> None:
    code = "import planapply\ntry: planapply.load_spec('none.toml')\nexcept planapply.PlanapplyError: pass"
    assert imported(code) & {"distributed", "boto3"} == set()


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Spec'"):
        planapply.Spec  # type: ignore[attr-defined]  # noqa: B018
