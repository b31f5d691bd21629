"""list: the clusters of this account, from the tags of their VMs."""

from collections.abc import Iterable

from planapply.fleet import PriceList
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.listing import ListedCluster, Listing
from planapply.model.node import TAG_CLUSTER, TAG_LINEAGE, VM
from planapply.ops.workspace import Workspace
from planapply.store import AWSSettings, open_store


def list_clusters(
    workspace: Workspace, locations: Iterable[str] = ()
) -> tuple[Listing, tuple[Diagnostic, ...]]:
    """Return the clusters of the account that the spec's provider connects to; change nothing.

    States are searched for at the spec's location and at `locations`; the warnings are about states that
    cannot be read. Raises PlanapplyError if the provider does not support this, or fails.
    """
    client = workspace.connect(None)
    name = workspace.plugin(None).name
    if not client.can_list:
        raise PlanapplyError(
            f"cannot list clusters: the provider {name!r} does not support it",
            "Search for the tag `planapply:cluster` with the cloud's own tools.",
        )
    vms = client.list_vms()
    states, warnings = _read_states([workspace.store.location, *locations], workspace.store.aws)
    clusters: dict[tuple[str, str], list[VM]] = {}
    for vm in vms:
        key = (vm.tags.get(TAG_CLUSTER, ""), vm.tags.get(TAG_LINEAGE, ""))
        clusters.setdefault(key, []).append(vm)
    prices = PriceList(client)
    now = workspace.clock.time()
    listed = []
    for (cluster, lineage), members in sorted(clusters.items()):
        kept = [vm for vm in members if vm.status != "stopping"]
        items = [(vm.size, vm.zone, vm.spot) for vm in kept]
        launched = [vm.launched_at for vm in members if vm.launched_at is not None]
        listed.append(
            ListedCluster(
                cluster=cluster,
                lineage=lineage,
                nodes=len(kept),
                stopping=len(members) - len(kept),
                age=max(0.0, now - min(launched)) if launched else None,
                usd_per_hour=prices.total(items) if items else None,
                unpriced=len(prices.unpriced(items)),
                state=states.get(lineage),
            )
        )
    return Listing(
        provider=name,
        cloud=client.identity(),
        clusters=tuple(listed),
        looked_at=tuple(states.values()),
        price_source=prices.source,
    ), warnings


def _read_states(
    locations: Iterable[str], aws: AWSSettings
) -> tuple[dict[str, str], tuple[Diagnostic, ...]]:
    """Return the location of each readable state by lineage, and warnings about the others."""
    found: dict[str, str] = {}
    warnings = []
    for location in dict.fromkeys(locations):
        store = open_store(location, aws)
        try:
            state = store.read()
        except PlanapplyError as error:
            warnings += [warning(d.summary, d.detail) for d in error.diagnostics]
            continue
        if state is not None:
            found.setdefault(state.lineage, store.location)
    return found, tuple(warnings)
