"""Terraform-like plan/apply for Dask clusters on cloud VMs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from planapply.version import __version__

if TYPE_CHECKING:
    from planapply.api.adaptive import GroupAdaptive as GroupAdaptive
    from planapply.api.cluster import Cluster as Cluster
    from planapply.api.connect import connect as connect
    from planapply.api.lifecycle import ApplyIncomplete as ApplyIncomplete
    from planapply.api.lifecycle import ApplyReport as ApplyReport
    from planapply.api.lifecycle import apply as apply
    from planapply.api.lifecycle import destroy as destroy
    from planapply.api.lifecycle import plan as plan
    from planapply.api.open_cluster import open_cluster as open_cluster
    from planapply.api.security_loader import security_loader as security_loader
    from planapply.api.spec import load_spec as load_spec
    from planapply.dask.handles import VMScheduler as VMScheduler
    from planapply.dask.handles import VMWorker as VMWorker
    from planapply.model.diagnostics import PlanapplyError as PlanapplyError

# Imported on first use: the command line imports this package too, and distributed takes a second.
_EXPORTS = {
    "ApplyIncomplete": "planapply.api.lifecycle",
    "ApplyReport": "planapply.api.lifecycle",
    "Cluster": "planapply.api.cluster",
    "GroupAdaptive": "planapply.api.adaptive",
    "PlanapplyError": "planapply.model.diagnostics",
    "VMScheduler": "planapply.dask.handles",
    "VMWorker": "planapply.dask.handles",
    "apply": "planapply.api.lifecycle",
    "connect": "planapply.api.connect",
    "destroy": "planapply.api.lifecycle",
    "load_spec": "planapply.api.spec",
    "open_cluster": "planapply.api.open_cluster",
    "plan": "planapply.api.lifecycle",
    "security_loader": "planapply.api.security_loader",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
