"""A second cluster by accident: VMs of a cluster of this name, although no state has any."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from planapply.fleet import ProviderClient
from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import TAG_CLUSTER, TAG_LINEAGE, TAG_STATE, VM
from planapply.model.state import State
from planapply.ops.workspace import Workspace
from planapply.store import LockInfo

MAX_ORIGIN = 200  # characters; every cloud allows them in a tag's value, with room for escapes
_UNPRINTABLE = "?"


def find_existing(
    workspace: Workspace, client: ProviderClient, state: State
) -> PlanapplyError | None:
    """Return the error that refuses a second cluster of this name; None if there is no other.

    VMs of the state's own lineage are no other cluster, and neither are VMs that are shutting down.
    """
    assert workspace.spec is not None
    name = workspace.spec.cluster.name
    vms = [
        vm
        for vm in client.find({TAG_CLUSTER: name})
        if vm.status != "stopping" and vm.tags.get(TAG_LINEAGE) != (state.lineage or None)
    ]
    if not vms:
        return None
    verb = "a VM of a cluster with this name exists"
    if len(vms) > 1:
        verb = f"{len(vms)} VMs of a cluster with this name exist"
    return PlanapplyError(
        f"cannot create cluster {name!r}: {verb}",
        f"There is no state of it at {workspace.store.location}.{_describe(vms)} To change that cluster, pass "
        "its state with --state, or set `state` under [cluster]. To create another cluster, choose another "
        "`name`, or pass --new-cluster to `planapply apply`. If the state of that cluster is lost, rebuild it "
        "with `planapply recover`.",
    )


def _describe(vms: Sequence[VM]) -> str:
    """Return sentences about who launched the VMs, when, and with which state, as far as the tags say."""
    launched = [vm.launched_at for vm in vms if vm.launched_at is not None]
    when = (
        f" on {datetime.fromtimestamp(min(launched), UTC):%Y-%m-%d %H:%M} UTC" if launched else ""
    )
    origins = sorted({_printable(vm.tags[TAG_STATE]) for vm in vms if vm.tags.get(TAG_STATE)})
    if not origins:
        return f" It was launched{when}; its tags do not name its state." if when else ""
    found = []
    for origin in origins[:3]:
        who, _, location = origin.partition(" ")
        found.append(f"by {who}" + (f" with the state {location}" if location.strip() else ""))
    more = f", and {len(origins) - 3} more" if len(origins) > 3 else ""
    return f" By its tags, it was launched{when} {', '.join(found)}{more}."


def describe_origin(location: str) -> str:
    """Return the value of the tag `planapply:state`: the user, and the location of the state.

    It is for display only: a location that may contain credentials is shortened, and a path is absolute.
    """
    scheme, separator, rest = location.partition("://")
    if separator:
        # After the last @, because a password may contain slashes.
        place = f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
    else:
        place = os.path.realpath(os.path.expanduser(location))
    return _printable(f"{LockInfo.of_this_process('', '').who} {place}")


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else _UNPRINTABLE for char in text)
    return shown if len(shown) <= MAX_ORIGIN else f"{shown[: MAX_ORIGIN - 1]}…"
