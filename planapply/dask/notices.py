"""The notices about spot VMs, which nodes report to their scheduler's event log.

A cloud announces a reclaim to the VM alone, by its metadata, and not to callers of its API. Anyone who may send a
task to the scheduler may write there as well: what it says is only believed about the VM that a node has now.
"""

from collections.abc import Mapping
from typing import Any

from planapply.bootstrap import NOTICE_TOPIC
from planapply.dask.safe_rpc import UndecodableAnswer
from planapply.dask.scheduler import Scheduler
from planapply.model.notice import Notice, NoticeKind
from planapply.model.state import CLOCK_SKEW

_ORDER = [*NoticeKind]


async def read_notices(
    scheduler: Scheduler, vms: Mapping[str, str], now: float
) -> dict[str, Notice]:
    """Return the most urgent notice of each node that has one.

    `vms` are the IDs of the spot VMs by node: notices of other VMs, such as a node's previous one, are
    ignored. `now` is in seconds since the epoch. Raises OSError if the scheduler does not answer.
    """
    events = await scheduler.events(NOTICE_TOPIC)
    if not isinstance(events, tuple):
        raise UndecodableAnswer("unexpected response to 'events'")
    notices: dict[str, Notice] = {}
    for event in events:
        notice = _parse(event, vms, now)
        if notice is None:
            continue
        known = notices.get(notice.node)
        if known is None or _ORDER.index(notice.kind) > _ORDER.index(known.kind):
            notices[notice.node] = notice
    return notices


def _parse(event: Any, vms: Mapping[str, str], now: float) -> Notice | None:
    """Return the notice in an event: its time by the scheduler, and a message; None if it is none."""
    try:
        _, message = event
        node, vm, kind, time = (message[key] for key in ("node", "vm", "kind", "time"))
    except (KeyError, TypeError, ValueError):
        return None
    is_text = all(type(value) is str for value in (node, vm, kind))
    if not is_text or type(time) not in (int, float) or not 0 <= time <= now + CLOCK_SKEW:
        return None
    if vms.get(node) != vm or kind not in _ORDER:
        return None
    return Notice(node=node, vm=vm, kind=NoticeKind(kind), time=float(time))
