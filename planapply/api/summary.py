"""The summary of a state-backed cluster for a notebook, from knowledge of this process; sends no request."""

from collections.abc import Mapping
from typing import Any, Protocol

from planapply.api.context import ClusterContext
from planapply.dask.handles import VMProcess
from planapply.model.desired import resolve_client
from planapply.model.names import split_name
from planapply.model.node import NodeConfig
from planapply.model.quantities import format_bytes
from planapply.model.spec import WorkerGroup
from planapply.model.state import NodeRecord
from planapply.render.cluster import ClusterSummary, GroupSummary
from planapply.specfile.dashboard import missing_plots


class ShownCluster(Protocol):
    """The part of a state-backed cluster that a notebook shows."""

    name: Any
    status: Any
    scheduler: Any
    scheduler_info: Any
    worker_spec: dict[Any, Any]
    workers: dict[Any, Any]

    @property
    def scheduler_address(self) -> str: ...
    @property
    def dashboard_link(self) -> str: ...
    def joined_nodes(self) -> dict[str, set[str]]: ...


def summarize(cluster: ShownCluster, context: ClusterContext, title: str) -> ClusterSummary:
    """Return the summary of a cluster; `title` is the name of its class."""
    workers = cluster.scheduler_info["workers"].values()
    return ClusterSummary(
        title=title,
        name=str(cluster.name),
        status=cluster.status.name,
        location=context.location,
        groups=summarize_groups(cluster, context),
        threads=sum(worker["nthreads"] for worker in workers),
        memory=format_bytes(sum(worker["memory_limit"] for worker in workers)),
        cost=context.running_cost(records_of(cluster)),
        scheduler=cluster.scheduler_address,
        dashboard=cluster.dashboard_link if _has_plots(context) else "",
        state=context.workspace.store.location,
    )


def _has_plots(context: ClusterContext) -> bool:
    spec = context.applied or context.workspace.spec
    if spec is None:
        return True
    options = spec.scheduler.options
    return options.get("dashboard") is not False and not missing_plots(
        options, resolve_client(spec, {}).environment, spec.cluster.provider
    )


def summarize_groups(cluster: ShownCluster, context: ClusterContext) -> list[GroupSummary]:
    """Return the groups in the order of the spec: their nodes, desired and joined, and their Dask workers."""
    spec, applied = context.workspace.spec, context.applied
    settings: dict[str, WorkerGroup] = {**(spec.workers if spec else {})}
    if applied is not None:  # what is edited in a file and not applied is not desired yet
        settings |= applied.workers
    configs = {
        name: entry["options"]["config"]
        for name, entry in dict(cluster.worker_spec).items()
        if "config" in entry.get("options", {})
    }
    joined = {name: len(names) for name, names in cluster.joined_nodes().items()}
    records = {name: handle.record for name, handle in _handles(cluster).items()}
    names = dict.fromkeys([*settings, *(split_name(name)[0] for name in configs)])
    return [_group(name, settings.get(name), configs, joined, records) for name in names]


def _group(
    name: str,
    settings: WorkerGroup | None,
    configs: Mapping[str, NodeConfig],
    joined: Mapping[str, int],
    records: Mapping[str, NodeRecord | None],
) -> GroupSummary:
    nodes = {n: config for n, config in configs.items() if split_name(n)[0] == name}
    # A lost node of a `count` group is no longer in `worker_spec`, but the next apply launches it.
    missing = max(0, ((settings.count if settings else None) or 0) - len(nodes))
    found = [record for n in nodes if (record := records.get(n)) is not None]
    kinds = [f"{r.size or ''}{' spot' if r.spot else ''}".strip() for r in found]
    processes = settings.processes if settings else 1
    return GroupSummary(
        name=name,
        joined=sum(joined.get(n, 0) >= config.processes for n, config in nodes.items()),
        nodes=len(nodes) + missing,
        joined_workers=sum(joined.get(n, 0) for n in nodes),
        workers=sum(config.processes for config in nodes.values()) + missing * processes,
        size=", ".join(sorted({kind for kind in kinds if kind})),
        limits=settings.format_limits() if settings else "not in the spec",
    )


def _handles(cluster: ShownCluster) -> dict[str, VMProcess]:
    return {n: h for n, h in dict(cluster.workers).items() if isinstance(h, VMProcess)}


def records_of(cluster: ShownCluster) -> list[NodeRecord]:
    """Return the records of all VMs that this object knows, the scheduler's first."""
    handles = [cluster.scheduler, *_handles(cluster).values()]
    records = (h.record for h in handles if isinstance(h, VMProcess))
    return [record for record in records if record is not None]
