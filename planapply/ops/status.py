"""status: the state, the cloud, and the scheduler side by side."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from planapply.diff import RefreshResult
from planapply.fleet import PriceList, ProviderClient
from planapply.fleet.prices import Item
from planapply.model.diagnostics import Diagnostic, warning
from planapply.model.endpoint import current_endpoint
from planapply.model.names import SCHEDULER, sort_key, worker_names
from planapply.model.node import NodeConfig
from planapply.model.state import Endpoint, NodeRecord, State
from planapply.model.status import NodeStatus, Status, WorkerUsage, total_usage
from planapply.model.watch import MAX_ATTEMPTS, given_up_error
from planapply.ops.cost import NOT_COUNTED
from planapply.ops.end_reasons import explain_ends
from planapply.ops.load import load_warnings
from planapply.ops.record import total_spending
from planapply.ops.recorded_spec import recorded_spec
from planapply.ops.refresh import refresh_state
from planapply.ops.workspace import Workspace
from planapply.specfile.dashboard import missing_plots_of

if TYPE_CHECKING:
    from planapply.dask.scheduler import SchedulerInfo


def status(workspace: Workspace) -> Status:
    """Return the status of a cluster; change nothing.

    Raises PlanapplyError if there is no state or the cloud does not answer. A scheduler that does not
    answer is part of the status.
    """
    state = workspace.read()
    client = workspace.connect(state)
    refreshed = explain_ends(client, refresh_state(workspace, client, state, resources=True))
    # The scheduler may have another address than the recorded one.
    endpoint = current_endpoint(refreshed.state)
    info = _probe(endpoint, state)
    missing = missing_plots_of(state)
    workers = None if info is None else info.workers
    nodes = list(_nodes(refreshed, info, workspace.clock.time()))
    expected = {worker for node in nodes for worker in worker_names(node.name, node.processes)}
    holder = workspace.store.lock_info()
    if holder is not None and holder.is_this_process:
        holder = None
    return Status(
        cluster=state.cluster,
        provider=state.provider,
        cloud=state.cloud,
        scheduler_address=info.address if info else _client_address(endpoint),
        scheduler_answers=info is not None,
        time_left={} if info is None else _time_left(endpoint, state),
        dashboard_url=endpoint.dashboard if endpoint and not missing else None,
        nodes=tuple(nodes),
        drift=refreshed.drift,
        problems=(
            *(warning(e.summary, e.detail) for e in client.check_settings()),
            *([missing] if missing and endpoint else []),
            *load_warnings(workspace, recorded_spec(state)),
            *_given_up(state),
        ),
        unknown_workers=tuple(sorted((workers or frozenset()) - expected)),
        resources=state.resources,
        ended=tuple(state.ended),
        lock=None if holder is None else holder.describe(),
        **_cost(client, nodes, refreshed, workspace.clock.time()),
    )


def _client_address(endpoint: Endpoint | None) -> str | None:
    return (endpoint.public or endpoint.private) if endpoint else None


def _probe(endpoint: Endpoint | None, state: State) -> "SchedulerInfo | None":
    if endpoint is None:
        return None
    from planapply.dask.scheduler import probe  # imports asyncio

    return probe(endpoint, state.tls)


def _given_up(state: State) -> Iterator[Diagnostic]:
    names = [name for name, vms in state.attempts.items() if len(vms) >= MAX_ATTEMPTS]
    if names:
        error = given_up_error(sorted(names, key=sort_key))
        yield from (warning(f"`planapply watch` {d.summary}", d.detail) for d in error.diagnostics)


def _time_left(endpoint: Endpoint | None, state: State) -> dict[str, float]:
    record = state.scheduler
    if endpoint is None or record is None or not (record.lifetimes and record.lifetimes.is_limited):
        return {}
    from planapply.dask.scheduler import lifetimes  # imports asyncio

    running = lifetimes(endpoint, state.tls)
    return running.time_left if running else {}


def _nodes(
    refreshed: RefreshResult, info: "SchedulerInfo | None", now: float
) -> Iterator[NodeStatus]:
    state = refreshed.state
    workers = None if info is None else info.workers
    requested = {name for intent in state.intents.values() for name in intent.names}
    for name in sorted({*state.nodes, *requested}, key=sort_key):
        record = state.nodes.get(name)
        if record is None:
            yield NodeStatus(name=name, status="requested")
            continue
        config = state.configs.get(record.config)
        processes = config.processes if config else 1
        present = None if workers is None else workers & {*worker_names(name, processes)}
        status = _vm_status(name, refreshed)
        # The scheduler has answered, so its own process counts as joined.
        joined = 1 if name == SCHEDULER and present is not None else None
        yield NodeStatus(
            name=name,
            vm=record.vm,
            status=status,
            joined=joined if present is None or name == SCHEDULER else len(present),
            processes=processes,
            usage=_usage(info, present or ()),
            age=None if record.launched_at is None else now - record.launched_at,
            ttl_left=_ttl_left(record, config, now) if status in ("running", "pending") else None,
            ended=refreshed.ended.get(name),
            **_facts(record),
        )


def _ttl_left(record: NodeRecord, config: NodeConfig | None, now: float) -> float | None:
    if config is None or config.ttl is None or record.launched_at is None:
        return None
    return max(0.0, record.launched_at + config.ttl - now)


def _usage(info: "SchedulerInfo | None", workers: Collection[str]) -> WorkerUsage | None:
    usages = [] if info is None else [u for name in workers if (u := info.usage.get(name))]
    return total_usage(usages) if usages else None


def _vm_status(
    name: str, refreshed: RefreshResult
) -> Literal["running", "pending", "stopping", "stopped", "gone"]:
    if name in refreshed.gone:
        return "gone"
    vm = refreshed.observed.get(name)
    # A VM that is too young to be visible may exist.
    return vm.status if vm else "pending"


def _facts(record: NodeRecord) -> dict[str, Any]:
    keys = ("private_address", "public_address", "size", "zone", "spot")
    return {key: getattr(record, key) for key in keys}


def _cost(
    client: ProviderClient, nodes: Sequence[NodeStatus], refreshed: RefreshResult, now: float
) -> dict[str, Any]:
    prices = PriceList(client)
    items: list[Item] = [
        (node.size, node.zone, node.spot) for node in nodes if node.status in ("running", "pending")
    ]
    unknown = prices.unpriced_sizes(items)
    state = refreshed.state
    spend = total_spending(state, prices, now, refreshed.gone)
    is_known = bool(spend and (spend.usd or not spend.at_least))
    if spend is None or not (is_known or (items and prices.total(items) is not None)):
        return {"unknown_prices": unknown}
    if not items and not spend.usd:
        return {}
    return {
        "usd_per_hour": prices.total(items),
        "usd_so_far": spend.usd,
        "usd_so_far_at_least": spend.at_least,
        "usd_so_far_at_most": spend.at_most,
        "price_source": prices.source,
        "not_counted": NOT_COUNTED if client.costs_money else (),
        "unknown_prices": unknown,
    }
