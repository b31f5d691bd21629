"""A spec, as Python sees it."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from planapply.model.diagnostics import PlanapplyError
from planapply.model.names import SCHEDULER
from planapply.model.spec import Spec
from planapply.ops.workspace import Workspace
from planapply.store import open_store

logger = logging.getLogger("planapply")

LOCK_TIMEOUT = 60.0  # seconds that a SpecCluster waits for somebody else's lock


class LoadedSpec(Spec):
    """What `load_spec` gives: a spec that knows where its state is."""

    _workspace: Workspace = PrivateAttr()

    @classmethod
    def from_workspace(cls, workspace: Workspace) -> Self:
        """The spec of a workspace."""
        spec = workspace.spec
        assert spec is not None
        values = {name: getattr(spec, name) for name in Spec.model_fields}
        # What was set counts as well: `digest` tells a default from one that was written.
        loaded = cls.model_construct(_fields_set=spec.model_fields_set, **values)
        loaded._workspace = workspace
        return loaded

    def cluster_spec(self) -> dict[str, Any]:
        """What `distributed.SpecCluster(**spec.cluster_spec())` takes, to launch this cluster.

        `scheduler` and `workers` are VM classes, by the nodes' names; with TLS there is `security`
        too. Closing that SpecCluster ends the cluster. Its nodes are in the spec's state all the
        while, so that `planapply destroy` ends what a process left behind that was killed. Raises
        PlanapplyError where the cluster exists already, and for all that `planapply plan` refuses.
        """
        from planapply.api.context import format_event, make_node_entry
        from planapply.api.state_session import StateSession
        from planapply.dask.batching import RequestQueue
        from planapply.dask.handles import VMScheduler
        from planapply.dask.scheduler import build_security
        from planapply.fleet.tls import make_tls
        from planapply.ops.plan import plan
        from planapply.ops.scale import open_as_owner

        store = open_store(self._workspace.store.location)
        workspace = replace(self._workspace, spec=self, store=store)
        planned = plan(workspace)
        if not planned.refreshed.state.is_empty:
            raise PlanapplyError(
                f"cluster {self.cluster.name!r} exists already",
                "A SpecCluster would launch it again, and end it when it closes. "
                "planapply.Cluster.from_spec adopts it; `planapply destroy` ends it.",
            )
        if self.cluster.protect:
            raise PlanapplyError(
                f"cluster {self.cluster.name!r} is protected, and a SpecCluster ends what it launched",
                "Take `protect` out of [cluster], or use `planapply apply` and Cluster.from_spec.",
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
        if tls is not None:
            spec["security"] = build_security(tls)
        return spec


def load_spec(
    path: str | Path = "planapply.toml",
    *,
    overrides: Sequence[str] = (),
    state: str | None = None,
) -> LoadedSpec:
    """The spec in a file, checked.

    `overrides` are `KEY=VALUE` as in `--set`; `state` is where the state is, if not where the spec
    says. Raises PlanapplyError with all that is wrong.
    """
    workspace = Workspace.from_spec(str(path), overrides, state)
    for diagnostic in workspace.diagnostics:
        warnings.warn(f"{diagnostic.summary}. {diagnostic.detail}", stacklevel=2)
    return LoadedSpec.from_workspace(workspace)
