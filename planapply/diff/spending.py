"""Cost of a cluster since it was created."""

from collections.abc import Callable, Collection, Iterable, Mapping

from planapply.model.history import Spend
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord


def add_spending(
    spend: Spend | None,
    records: Iterable[NodeRecord],
    configs: Mapping[str, NodeConfig],
    price: Callable[[NodeRecord], float | None],
    now: float,
    gone: Collection[str] = (),
) -> Spend:
    """Return what a cluster has cost until `now`, in USD.

    `spend` is what was recorded last; without it, the VMs are counted since their launch. `records` are
    all VMs that have existed since then; `price` returns USD per hour; `gone` are the IDs of VMs that
    ended by themselves at an unknown time: each is counted until now, but not beyond its ttl.
    """
    usd, at_least = (spend.usd, spend.at_least) if spend else (0.0, True)
    at_most = spend.at_most if spend else False
    for record in records:
        hours = _hours(spend, record, configs.get(record.config), now)
        if not hours:
            continue
        usd_per_hour = price(record)
        if usd_per_hour is None:
            at_least = True
        else:
            usd += hours * usd_per_hour
            at_most = at_most or record.vm in gone
    return Spend(usd=round(usd, 6), until=now, at_least=at_least, at_most=at_most)


def _hours(spend: Spend | None, record: NodeRecord, config: NodeConfig | None, now: float) -> float:
    launched_at = now if record.launched_at is None else record.launched_at
    start, end = launched_at, now
    if spend is not None:
        start = spend.until if record.launched_at is None else max(launched_at, spend.until)
    if config is not None and config.ttl is not None:
        end = min(end, launched_at + config.ttl)
    return max(0.0, end - start) / 3600
