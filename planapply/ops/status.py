"""status: what the state, the cloud and the scheduler say, side by side."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from planapply.diff import RefreshResult, refresh
from planapply.fleet import ProviderClient
from planapply.fleet.request import cluster_tags
from planapply.model.names import SCHEDULER, sort_key, worker_names
from planapply.model.state import NodeRecord, State
from planapply.model.status import NodeStatus, Status
from planapply.ops.cost import price_sources, unpriced_sizes
from planapply.ops.workspace import Workspace
from planapply.provider import Price

if TYPE_CHECKING:
    from planapply.dask.scheduler import SchedulerInfo


def status(workspace: Workspace) -> Status:
    """Ask the cloud what exists and the scheduler who has joined; changes nothing.

    Raises PlanapplyError where there is no state, or the cloud can't be asked; a scheduler that
    does not answer is part of the status.
    """
    state = workspace.read()
    client = workspace.connect(state)
    now = workspace.clock.time()
    refreshed = refresh(
        state, client.find(cluster_tags(state)), now, client.limits.consistency_delay
    )
    info = _probe(state)
    workers = None if info is None else info.workers
    nodes = list(_nodes(refreshed, workers, now))
    expected = {worker for node in nodes for worker in worker_names(node.name, node.processes)}
    holder = workspace.store.lock_info()
    if holder is not None and holder.is_this_process:
        holder = None
    return Status(
        cluster=state.cluster,
        provider=state.provider,
        cloud=state.cloud,
        scheduler_address=info.address if info else _for_clients(state),
        scheduler_answers=info is not None,
        dashboard_url=state.endpoint.dashboard if state.endpoint else None,
        nodes=tuple(nodes),
        unknown_workers=tuple(sorted((workers or frozenset()) - expected)),
        unknown_vms=tuple(
            sorted(
                {
                    *(vm.id for vm in refreshed.strays),
                    *(refreshed.state.nodes[name].vm for name in refreshed.adopted),
                }
            )
        ),
        lock=None if holder is None else holder.describe(),
        **_cost(client, nodes),
    )


def _for_clients(state: State) -> str | None:
    return (state.endpoint.public or state.endpoint.private) if state.endpoint else None


def _probe(state: State) -> "SchedulerInfo | None":
    if state.endpoint is None:
        return None
    from planapply.dask.scheduler import probe  # imports asyncio

    return probe(state.endpoint, state.tls)


def _nodes(
    refreshed: RefreshResult, workers: frozenset[str] | None, now: float
) -> Iterator[NodeStatus]:
    state = refreshed.state
    requested = {name for intent in state.intents.values() for name in intent.names}
    for name in sorted({*state.nodes, *requested}, key=sort_key):
        record = state.nodes.get(name)
        if record is None:
            yield NodeStatus(name=name, status="requested")
            continue
        config = state.configs.get(record.config)
        processes = config.processes if config else 1
        present = None if workers is None else workers & {*worker_names(name, processes)}
        # The scheduler is there, for it has answered.
        joined = 1 if name == SCHEDULER and present is not None else None
        yield NodeStatus(
            name=name,
            vm=record.vm,
            status=_vm_status(name, refreshed),
            joined=joined if present is None or name == SCHEDULER else len(present),
            processes=processes,
            age=None if record.launched_at is None else now - record.launched_at,
            **_facts(record),
        )


def _vm_status(
    name: str, refreshed: RefreshResult
) -> Literal["running", "pending", "stopping", "stopped", "gone"]:
    if name in refreshed.gone:
        return "gone"
    vm = refreshed.observed.get(name)
    # One that is too young to be seen is not gone.
    return vm.status if vm else "pending"


def _facts(record: NodeRecord) -> dict[str, Any]:
    keys = ("private_address", "public_address", "size", "zone", "spot")
    return {key: getattr(record, key) for key in keys}


def _cost(client: ProviderClient, nodes: Sequence[NodeStatus]) -> dict[str, Any]:
    if not client.has_prices:
        return {}
    running = [node for node in nodes if node.status in ("running", "pending")]
    prices: list[tuple[NodeStatus, Price]] = [
        (node, client.price(node.size, node.zone, node.spot)) for node in running
    ]
    known = [(node, p.usd_per_hour) for node, p in prices if p.usd_per_hour is not None]
    unknown = unpriced_sizes((node.size, price) for node, price in prices)
    if not known:
        return {"unknown_prices": unknown}
    return {
        "usd_per_hour": round(sum(usd for _, usd in known), 6),
        "usd_so_far": round(sum(usd * (node.age or 0.0) / 3600 for node, usd in known), 6),
        "price_source": price_sources(price for _, price in prices),
        "unknown_prices": unknown,
    }
