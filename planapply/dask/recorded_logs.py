"""The log lines that the Dask processes of a cluster remember, from its scheduler."""

from collections.abc import Mapping

from planapply.dask.scheduler import ask
from planapply.model.names import SCHEDULER, worker_names
from planapply.model.state import TLS, Endpoint


def recorded_logs(
    endpoint: Endpoint, tls: TLS | None, nodes: Mapping[str, int], lines: int
) -> dict[str, list[str]]:
    """Return the last `lines` log lines of each Dask process of these nodes, the oldest first, by node.

    `nodes` are names with the number of Dask workers. A node that has not joined is absent; so are all
    of them if the scheduler does not answer within a few seconds.
    """
    names = {w for node, count in nodes.items() for w in worker_names(node, count)}
    answer = ask(
        endpoint, tls, lambda scheduler: scheduler.logs(names, lines, own=SCHEDULER in nodes)
    )
    if answer is None:
        return {}
    own, of_workers = answer
    found = {SCHEDULER: own} if own is not None else {}
    for node, count in nodes.items():
        workers = [name for name in worker_names(node, count) if name in of_workers]
        if workers and node != SCHEDULER:
            found[node] = [line for name in workers for line in of_workers[name]]
    return found
