"""list: VMs' tags -> every cluster of this account."""

from collections import Counter
from collections.abc import Iterable, Sequence

from planapply.fleet import ProviderClient
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.listing import ListedCluster, Listing
from planapply.model.node import TAG_CLUSTER, TAG_LINEAGE, VM
from planapply.ops.cost import price_sources
from planapply.ops.workspace import Workspace
from planapply.provider import Price
from planapply.store import open_store


def list_clusters(
    workspace: Workspace, locations: Iterable[str] = ()
) -> tuple[Listing, tuple[Diagnostic, ...]]:
    """The clusters of the account that the spec's provider reaches; changes nothing.

    States are looked for at the spec's own place and at `locations`; the warnings are about those that
    could not be read. Raises PlanapplyError where the provider has no such list, or can't be asked.
    """
    client = workspace.connect(None)
    name = workspace.plugin(None).name
    if not client.can_list:
        raise PlanapplyError(
            f"the provider {name!r} can't list the VMs of other clusters",
            "Look for the tag `planapply:cluster` with the cloud's own tools.",
        )
    vms = client.list_vms()
    states, warnings = _read_states([workspace.store.location, *locations])
    clusters: dict[tuple[str, str], list[VM]] = {}
    for vm in vms:
        key = (vm.tags.get(TAG_CLUSTER, ""), vm.tags.get(TAG_LINEAGE, ""))
        clusters.setdefault(key, []).append(vm)
    prices: list[Price] = []
    now = workspace.clock.time()
    listed = []
    for (cluster, lineage), members in sorted(clusters.items()):
        kept = [vm for vm in members if vm.status != "stopping"]
        usd, unpriced, cluster_prices = _cost(client, kept)
        prices += cluster_prices
        launched = [vm.launched_at for vm in members if vm.launched_at is not None]
        listed.append(
            ListedCluster(
                cluster=cluster,
                lineage=lineage,
                nodes=len(kept),
                stopping=len(members) - len(kept),
                age=max(0.0, now - min(launched)) if launched else None,
                usd_per_hour=usd,
                unpriced=unpriced,
                state=states.get(lineage),
            )
        )
    return Listing(
        provider=name,
        cloud=client.identity(),
        clusters=tuple(listed),
        looked_at=tuple(states.values()),
        price_source=price_sources(prices),
    ), warnings


def _read_states(locations: Iterable[str]) -> tuple[dict[str, str], tuple[Diagnostic, ...]]:
    """Lineage -> place of every state that could be read, and why the others could not."""
    found: dict[str, str] = {}
    warnings = []
    for location in dict.fromkeys(locations):
        store = open_store(location)
        try:
            state = store.read()
        except PlanapplyError as error:
            warnings += [warning(d.summary, d.detail) for d in error.diagnostics]
            continue
        if state is not None:
            found.setdefault(state.lineage, store.location)
    return found, tuple(warnings)


def _cost(client: ProviderClient, vms: Sequence[VM]) -> tuple[float | None, int, list[Price]]:
    """USD an hour, how many have no known price, and the prices."""
    if not client.has_prices:
        return None, 0, []
    items = Counter((vm.size, vm.zone, vm.spot) for vm in vms)
    prices = [(client.price(*item), number) for item, number in items.items()]
    known = [(p.usd_per_hour, number) for p, number in prices if p.usd_per_hour is not None]
    usd = round(sum(usd * number for usd, number in known), 6) if known else None
    unpriced = len(vms) - sum(number for _, number in known)
    return usd, unpriced, [price for price, _ in prices]
