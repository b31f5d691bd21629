"""Progress of a change, by the states before it and after."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from planapply.model.names import SCHEDULER, split_name
from planapply.model.plan import Action, Change, DriftKind, Mode, Plan
from planapply.model.state import State


@dataclass(frozen=True)
class Snapshot:
    """The nodes and supporting resources of a state at one moment."""

    vms: dict[str, tuple[str, Any]]
    """VM -> its node, and what changes in place: its tags and lifetimes."""
    resources: dict[str, tuple[str, Any]]
    """ID -> name and detail."""

    @classmethod
    def of(cls, state: State, gone: Collection[str] = ()) -> "Snapshot":
        """Return the snapshot of a state, without VMs that are `gone`: they need no termination."""
        return cls(
            {
                r.vm: (name, (r.tags, r.lifetimes))
                for name, r in state.nodes.items()
                if r.vm not in gone
            },
            {r.id: (name, r.detail) for name, r in state.resources.items() if r.id},
        )


@dataclass(frozen=True)
class Done:
    """The numbers of nodes and supporting resources that were created, changed, and destroyed."""

    added: int
    changed: int
    destroyed: int
    groups: frozenset[str]
    """The groups of the nodes among them."""


def compare(before: Snapshot, after: Snapshot) -> Done:
    """Return what was done between two snapshots."""
    added, changed, destroyed = set(), set(), set()
    for old, new in ((before.vms, after.vms), (before.resources, after.resources)):
        added |= new.keys() - old.keys()
        destroyed |= old.keys() - new.keys()
        changed |= {key for key in old.keys() & new.keys() if old[key] != new[key]}
    vms = {**before.vms, **after.vms}
    names = [vms[vm][0] for vm in added | changed | destroyed if vm in vms]
    groups = frozenset(split_name(name)[0] for name in names)
    return Done(len(added), len(changed), len(destroyed), groups)


def has_no_open_requests(state: State) -> bool:
    """Return whether no launch and no termination is in progress."""
    return not state.intents and all(r.status != "terminating" for r in state.nodes.values())


def is_carried_out(plan: Plan, state: State, wait: bool) -> bool:
    """Return whether a state shows everything that a plan would change.

    With `wait`, all nodes must have joined.
    """
    gone = plan.drift if plan.mode is Mode.REFRESH_ONLY else ()
    return (
        not state.intents
        and all(_is_done(change, plan, state) for change in plan.changes)
        and not any(i.kind is DriftKind.GONE and i.name in state.nodes for i in gone)
        and not (wait and any(r.status == "launched" for r in state.nodes.values()))
        and not (state.is_empty and state.tls is not None)
    )


def _is_done(change: Change, plan: Plan, state: State) -> bool:
    if change.kind == "stray":
        return True  # the state has no record of it, and it is terminated first
    if change.kind == "resource":
        resource = state.resources.get(change.name)
        if change.action is Action.DESTROY:
            return resource is None
        required = (plan.resources or {}).get(change.name)
        return bool(resource and resource.id) and not (
            required and resource and resource.missing_details(required)
        )
    record = state.nodes.get(change.name)
    if change.action is Action.DESTROY or record is None:
        return change.action is Action.DESTROY and record is None
    if change.action is Action.UPDATE:
        config = plan.configs[change.after or ""]
        has_lifetimes = change.name != SCHEDULER or record.lifetimes in (None, config.lifetimes)
        return record.tags == config.tags and has_lifetimes
    return record.config in plan.configs[change.after or ""].digests and record.vm != change.vm
