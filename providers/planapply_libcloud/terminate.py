"""Termination of VMs, and changes of their tags, by one call for each, in parallel."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import rejection
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.full import FullDriver
from planapply_libcloud.errors import NotFound
from planapply_libcloud.find import find_nodes


def terminate(client: Client, ids: Sequence[str]) -> list[str]:
    """Terminate each VM; return the IDs that the cloud does not know.

    Raise the ProviderError that is the hardest to fix, after all requests were sent.
    """
    nodes: dict[str, Any] = {}
    if ids and not client.driver.is_destroyed_by_id:
        nodes = {vm.id: node for node, vm in find_nodes(client, {})}

    def destroy(id: str) -> bool | ProviderError:
        """Return whether the VM is unknown."""
        if not client.driver.is_destroyed_by_id and id not in nodes:
            return True
        try:
            with client.borrow_driver(writes=True) as lib:
                client.driver.destroy(lib, nodes.get(id) or _make_node(lib, id))
        except NotFound:
            return True
        except ProviderError as error:
            return error
        return False

    with ThreadPoolExecutor(client.driver.parallel, thread_name_prefix="planapply") as pool:
        results = dict(zip(ids, pool.map(destroy, ids), strict=True))
    errors = [result for result in results.values() if isinstance(result, ProviderError)]
    if errors:
        raise max(errors, key=lambda error: _SEVERITY.index(error.kind))
    return [id for id, unknown in results.items() if unknown is True]


_SEVERITY = [
    ErrorKind.THROTTLED,
    ErrorKind.UNAVAILABLE,
    ErrorKind.UNKNOWN,
    ErrorKind.TOKEN_SPENT,
    ErrorKind.CAPACITY,
    ErrorKind.QUOTA,
    ErrorKind.REJECTED,
    ErrorKind.UNAUTHORIZED,
]


def _make_node(lib: Any, id: str) -> Any:
    """Return a node for drivers that use only its ID."""
    from libcloud.compute.base import Node
    from libcloud.compute.types import NodeState

    return Node(id=id, name=id, state=NodeState.UNKNOWN, public_ips=[], private_ips=[], driver=lib)


def retag(
    client: Client, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]
) -> None:
    """Set `tags` on these VMs, and remove the keys in `removed`."""
    driver = client.driver
    assert isinstance(driver, FullDriver)
    problem = driver.check_tags(tags)
    if problem:
        raise rejection(f"{client.cloud} {problem}", "Change `tags`.")

    def change_tags(node: Any, old: Mapping[str, str]) -> None:
        kept = {key: value for key, value in old.items() if key not in removed}
        new = {**kept, **tags}
        if new != old:
            with client.borrow_driver(writes=True) as lib:
                driver.retag(lib, node, new, [key for key in removed if key in old])

    found = [(node, vm) for node, vm in find_nodes(client, {}) if vm.id in ids]
    with ThreadPoolExecutor(driver.parallel, thread_name_prefix="planapply") as pool:
        list(pool.map(lambda pair: change_tags(pair[0], pair[1].tags), found))
