"""A spec in Python."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from planapply.api.arguments import Overrides, to_path, to_state, to_texts
from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import SCHEDULER
from planapply.model.secrets import mask_urls
from planapply.model.spec import Spec
from planapply.ops.workspace import Workspace
from planapply.store import open_store

logger = logging.getLogger("planapply")


class LoadedSpec(Spec):
    """A spec that knows the location of its state, returned by `load_spec`."""

    _workspace: Workspace = PrivateAttr()

    @classmethod
    def from_workspace(cls, workspace: Workspace) -> Self:
        """Return the spec of a workspace."""
        spec = workspace.spec
        assert spec is not None
        values = {name: getattr(spec, name) for name in Spec.model_fields}
        # `digest` distinguishes a default from the same value written in the file.
        loaded = cls.model_construct(_fields_set=spec.model_fields_set, **values)
        loaded._workspace, loaded._client = workspace, spec.client
        return loaded

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # Neither all defaults nor the variables of the environment, which may be secrets.
        yield "cluster", self.cluster.name
        yield "provider", self.cluster.provider
        yield "workers", {name: group.format_limits() for name, group in self.workers.items()}
        yield "state", mask_urls(self._workspace.store.location)

    def __str__(self) -> str:
        return repr(self)

    def cluster_spec(self, template: str | None = None) -> dict[str, Any]:
        """Return the arguments with which `distributed.SpecCluster(**…)` launches this cluster.

        They are `scheduler` and `workers`, made of VM classes by the nodes' names, `worker`, the node that
        `scale` adds, and `security` with TLS. `template` is the group of the nodes that `scale` adds; the
        default is the only group. Closing that SpecCluster destroys the cluster. The nodes are recorded in the spec's
        state, so that `planapply destroy` terminates the VMs that a killed process left. Raise
        PlanapplyError if the cluster exists already, and for all that `planapply plan` refuses.
        """
        from planapply.api.context import format_event, make_node_entry
        from planapply.api.state_session import LOCK_TIMEOUT, StateSession
        from planapply.dask.batching import RequestQueue
        from planapply.dask.handles import VMScheduler
        from planapply.dask.scheduler import build_security
        from planapply.fleet.tls import make_tls
        from planapply.ops.plan import plan
        from planapply.ops.resolve import resolve_spec
        from planapply.ops.scale import open_as_owner

        group = self._find_template(template)
        store = open_store(self._workspace.store.location, self._workspace.store.aws)
        workspace = replace(self._workspace, spec=self, store=store)
        planned = plan(workspace)
        if not planned.refreshed.state.is_empty:
            raise PlanapplyError(
                f"cannot launch cluster {self.cluster.name!r}: it exists already",
                "Use planapply.Cluster.from_spec to open it, or `planapply destroy` to remove it.",
            )
        if self.cluster.protect:
            raise PlanapplyError(
                f"cannot launch cluster {self.cluster.name!r}: it is protected, but a SpecCluster "
                "destroys its nodes when it closes",
                "Remove `protect` from [cluster], or use `planapply apply` and Cluster.from_spec.",
            )
        creation = planned.plan
        tls = make_tls(creation.cluster) if creation.security == "tls" else None
        session = StateSession(
            lambda: open_as_owner(
                workspace, tls, LOCK_TIMEOUT, lambda event: logger.info("%s", format_event(event))
            )
        )
        queue = RequestQueue(session.open_fleet)
        configs = {
            change.name: creation.configs[change.after]
            for change in creation.changes
            if change.kind == "node" and change.after is not None
        }
        spec: dict[str, Any] = {
            "scheduler": {
                "cls": VMScheduler,
                "options": {"config": configs.pop(SCHEDULER), "queue": queue},
            },
            "workers": {
                name: make_node_entry(queue, name, config) for name, config in configs.items()
            },
        }
        for name, settings in self.workers.items():
            queue.next_index[name] = settings.count or settings.min or 0
        if group is not None:
            desired, _ = resolve_spec(
                workspace.plugin(None), planned.client, self, planned.refreshed.state
            )
            [config] = [found.config for found in desired.groups if found.name == group]
            spec["worker"] = make_node_entry(queue, None, config)
        if tls is not None:
            spec["security"] = build_security(tls)
        return spec

    def _find_template(self, group: str | None) -> str | None:
        """Return the group whose nodes `scale` adds; None if the spec has several."""
        if group is not None and group not in self.workers:
            raise ValueError(
                f"cannot use group {group!r} as a template: there is no such group. "
                f"Groups: {', '.join(self.workers) or 'none'}."
            )
        return next(iter(self.workers)) if group is None and len(self.workers) == 1 else group


def load_spec(
    path: str | Path = "planapply.toml",
    *,
    overrides: Overrides = (),
    state: str | Path | None = None,
) -> LoadedSpec:
    """Read and validate the spec in a file.

    `overrides` are those of `planapply.plan`. `state` is the path or URL of the state; the default is
    that of the spec. Raise PlanapplyError with all problems of the spec.
    """
    workspace = Workspace.from_spec(to_path("path", path), to_texts(overrides), to_state(state))
    for diagnostic in workspace.diagnostics:
        warnings.warn(f"{diagnostic.summary}. {diagnostic.detail}", stacklevel=2)
    return LoadedSpec.from_workspace(workspace)
