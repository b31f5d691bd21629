"""Plans that keep a cluster as it was last applied: lost nodes are launched again, nothing else changes."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from planapply.diff.changes import destroy, resource_changes, stray_changes
from planapply.diff.desired_nodes import indexes, known_names, new_names, next_indexes
from planapply.diff.plans import (
    build_plan,
    elastic_groups,
    referenced_configs,
    unknown_warnings,
    with_end_reason,
)
from planapply.diff.refresh import RefreshResult
from planapply.diff.resize import loss_reason
from planapply.diff.waves import launch_waves
from planapply.model.desired import DesiredState, Group
from planapply.model.names import SCHEDULER, node_name, sort_key, split_name
from planapply.model.plan import Action, Change, ChangeReason, Mode, Plan
from planapply.model.state import NodeRecord, Resource, State
from planapply.model.watch import MAX_ATTEMPTS

MIN_LIFE = 600.0
"""Seconds for which a node must live after it has joined, so that its VM is no failed attempt."""


@dataclass(frozen=True)
class HealOptions:
    """Facts besides the state and the VMs, and limits of the plan."""

    now: float = 0.0
    """Seconds since the epoch."""
    not_joined: Collection[str] = ()
    """Nodes that the scheduler, which has answered, does not know, although they had `join_timeout`."""
    notices: Collection[str] = ()
    """Nodes whose spot VM the cloud is about to reclaim."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """The numbers of nodes that the load requires, by elastic group."""
    idle: Collection[str] = ()
    """Nodes that leave their group first if the load requires fewer."""
    paused: Collection[str] = ()
    """Groups for which nothing is launched now, since the cloud had no capacity."""
    can_launch: bool = True
    resources: Mapping[str, Resource] | None = None
    """The supporting resources that the provider needs; None leaves them unchecked."""


@dataclass(frozen=True)
class HealPlan:
    """A plan of mode HEAL, and the attempts to record with its first write."""

    plan: Plan
    attempts: Mapping[str, list[str]]
    """The new value of `State.attempts`."""
    lost: tuple[Change, ...] = ()
    """Nodes that are lost, or will be, as removals with a reason, whatever the plan does about them."""
    is_ending: bool = False
    """Whether nothing is launched since the scheduler's `ttl` ends soon."""
    given_up: tuple[str, ...] = ()
    """Nodes that are lost or have not joined, and for which nothing more is launched."""


def create_heal_plan(
    desired: DesiredState, refreshed: RefreshResult, options: HealOptions = HealOptions()
) -> HealPlan:
    """Return the plan that replaces lost nodes, and keeps elastic groups within their bounds.

    It never replaces a node because of its configuration, and never changes the scheduler: the caller
    must check that the scheduler exists. Nothing is launched if the scheduler's `ttl` ends within
    `join_timeout`. With `protect`, only lost nodes are launched again, and elastic groups follow the load.
    """
    healing = _Healing(desired, refreshed, options)
    changes = [change for group in desired.groups for change in healing.group_changes(group)]
    changes += healing.leftover_changes()
    if options.resources is not None and any(c.action is not Action.DESTROY for c in changes):
        needed = resource_changes(options.resources, refreshed)
        changes = [*(c for c in needed if c.action is not Action.DESTROY), *changes]
    changes += stray_changes(refreshed, (), terminate_unknown=False)
    state = refreshed.state
    nodes = [change for change in changes if change.kind == "node"]
    created = {change.name for change in nodes if change.after is not None}
    removed = {change.name for change in nodes if change.action is Action.DESTROY}
    configs = {group.name: group.config for group in desired.groups}
    # In waves: if all workers are under notice at the same time, some of them must keep the results.
    announced = [change for change in nodes if change.reason is ChangeReason.SPOT_NOTICE]
    waves = launch_waves(announced, {group.name: group for group in desired.groups}, refreshed)
    plan = build_plan(
        desired,
        refreshed,
        mode=Mode.HEAL,
        configs=referenced_configs(changes, configs, state),
        changes=tuple(changes),
        next_index=next_indexes(created, state),
        waves=waves if len(waves) > 1 else (),
        elastic=elastic_groups(desired, (known_names(state) - removed) | created),
        diagnostics=unknown_warnings(refreshed),
    )
    given_up = tuple(sorted(healing.given_up, key=sort_key))
    return HealPlan(
        plan,
        healing.new_attempts(created),
        lost=healing.lost(),
        is_ending=scheduler_ends_soon(desired, state, options.now),
        given_up=given_up,
    )


def create_cleanup_plan(desired: DesiredState, refreshed: RefreshResult) -> HealPlan:
    """Return the plan for a cluster that has terminated itself: terminate VMs that the cloud has kept.

    The state keeps its record of the others until the next apply or destroy.
    """
    state = refreshed.state
    changes = [
        destroy(name, state, ChangeReason.VM_STOPPED)
        for name in sorted(state.nodes, key=sort_key, reverse=True)
        if loss_reason(name, refreshed) is ChangeReason.VM_STOPPED
    ]
    plan = build_plan(
        desired,
        refreshed,
        mode=Mode.HEAL,
        configs=referenced_configs(changes, {}, state),
        changes=tuple(changes),
        next_index=next_indexes((), state),
    )
    return HealPlan(plan, state.attempts, tuple(changes))


def scheduler_ends_soon(desired: DesiredState, state: State, now: float) -> bool:
    """Return whether the scheduler's `ttl` ends within `join_timeout`: a new node could hardly join."""
    record = state.scheduler
    config = state.configs.get(record.config) if record else None
    if record is None or config is None or config.ttl is None or record.launched_at is None:
        return False
    return record.launched_at + config.ttl - now <= desired.join_timeout


class _Healing:
    def __init__(
        self, desired: DesiredState, refreshed: RefreshResult, options: HealOptions
    ) -> None:
        self.desired, self.refreshed, self.options = desired, refreshed, options
        self.state = refreshed.state
        self.requested = {n for intent in self.state.intents.values() for n in intent.names}
        self.reasons: dict[str, ChangeReason] = {}
        """The nodes that are lost, or will be."""
        self.attempts = {name: [*vms] for name, vms in self.state.attempts.items()}
        self.given_up: set[str] = set()
        self.hindered: set[str] = set()
        """Elastic groups for which nothing can be launched now."""
        self.can_launch = options.can_launch and not scheduler_ends_soon(
            desired, self.state, options.now
        )
        for name, record in self.state.nodes.items():
            reason = self._reason(name, record)
            if name != SCHEDULER and reason is not None:
                self.reasons[name] = reason
                self._count_attempt(name, record, reason)

    def _reason(self, name: str, record: NodeRecord) -> ChangeReason | None:
        reason = loss_reason(name, self.refreshed)
        if reason is None and not self.desired.protect:
            # These VMs run: with `protect`, they stay.
            if name in self.options.not_joined:
                reason = ChangeReason.NOT_JOINED
            elif name in self.options.notices:
                reason = ChangeReason.SPOT_NOTICE
        return reason

    def _count_attempt(self, name: str, record: NodeRecord, reason: ChangeReason) -> None:
        """Count the VM as a failed attempt, once; or begin again after a long life."""
        earlier = self.attempts.get(name, [])
        if reason is ChangeReason.TERMINATION_IN_PROGRESS:
            return  # by planapply, which has counted it if it was one
        if record.vm not in earlier:
            failed = reason is ChangeReason.NOT_JOINED or self._was_short(record)
            self.attempts[name] = earlier = [*earlier, record.vm] if failed else []
        if len(earlier) >= MAX_ATTEMPTS:
            self.given_up.add(name)
        elif not earlier:
            self.attempts.pop(name, None)

    def _was_short(self, record: NodeRecord) -> bool:
        # A life longer than this was no failure even if nothing looked when the node joined.
        limits = [(record.launched_at, self.desired.join_timeout + MIN_LIFE)]
        if record.status == "joined":
            limits.append((record.joined_at or record.launched_at, MIN_LIFE))
        return all(since is None or self.options.now - since <= limit for since, limit in limits)

    def _reached_ttl(self, name: str) -> bool:
        record = self.state.nodes[name]
        config = self.state.configs.get(record.config)
        if config is None or config.ttl is None or record.launched_at is None:
            return False
        return self.options.now >= record.launched_at + config.ttl

    def group_changes(self, group: Group) -> Iterator[Change]:
        """Yield the changes of one group."""
        can_launch = self.can_launch and group.name not in self.options.paused
        if group.count is not None:
            for index in range(group.count):
                yield from self._counted(node_name(group.name, index), group, can_launch)
        else:
            yield from self._elastic(group, can_launch)

    def _counted(self, name: str, group: Group, can_launch: bool) -> Iterator[Change]:
        record, reason = self.state.nodes.get(name), self.reasons.get(name)
        if record is None:
            if can_launch:
                yield self._create(name, group)
        elif reason is not None and name not in self.given_up:
            if can_launch and not self._reached_ttl(name):
                yield self._relaunch(name, group, record, reason)
            elif reason in _ENDED:
                yield destroy(name, self.state, reason)

    def _elastic(self, group: Group, can_launch: bool) -> Iterator[Change]:
        names = {node_name(group.name, i) for i in indexes(group.name, known_names(self.state))}
        announced = {n for n in names if self.reasons.get(n) is ChangeReason.SPOT_NOTICE}
        lost = (names & self.reasons.keys()) - self.given_up - announced
        alive = sorted(
            names - lost,
            key=lambda n: (
                n in self.options.idle,
                n in announced,
                not self._is_joined(n),
                split_name(n)[1],
            ),
        )
        size = self._size(group, len(alive))
        facts: dict[str, int | str] = {"before": len(alive), "after": size}
        for name in sorted([*lost, *alive[size:]], key=sort_key):
            yield destroy(name, self.state, self.reasons.get(name, ChangeReason.SCALED), facts)
        if not can_launch:
            self.hindered.add(group.name)
            return
        for name in sorted(alive[:size], key=sort_key):
            if name in self.requested and name not in self.state.nodes:
                yield self._create(name, group)
            elif name in announced - self.given_up:
                record = self.state.nodes[name]
                yield self._relaunch(name, group, record, ChangeReason.SPOT_NOTICE)
        for name in new_names(group.name, size - len(alive), self.state):
            yield self._create(name, group)

    def _size(self, group: Group, alive: int) -> int:
        """Return the group's number of nodes, within its bounds."""
        least, most = group.min or 0, group.max or 0
        if group.name in self.options.sizes:
            return min(max(self.options.sizes[group.name], least), most)
        # With `protect`, only the load removes nodes.
        return max(alive, least) if self.desired.protect else min(max(alive, least), most)

    def leftover_changes(self) -> Iterator[Change]:
        """Yield the removals of nodes that no longer run, and that are none of the desired ones."""
        counts = {group.name: group.count for group in self.desired.groups}
        for name in sorted(self.reasons, key=sort_key):
            group, index = split_name(name)
            is_leftover = group not in counts or index >= (counts[group] or 0)
            if counts.get(group, 0) is not None and is_leftover and self._has_ended(name):
                yield destroy(name, self.state, self.reasons[name])

    def _has_ended(self, name: str) -> bool:
        return self.reasons[name] in (ChangeReason.VM_GONE, *_ENDED)

    def _is_joined(self, name: str) -> bool:
        return name in self.state.nodes and self.state.nodes[name].status == "joined"

    def _create(self, name: str, group: Group) -> Change:
        is_open = name in self.requested
        return Change(
            name=name,
            action=Action.CREATE,
            reason=ChangeReason.REQUEST_UNRESOLVED if is_open else ChangeReason.NEW,
            after=group.config.digest,
        )

    def _relaunch(
        self, name: str, group: Group, record: NodeRecord, reason: ChangeReason
    ) -> Change:
        is_gone = reason is ChangeReason.VM_GONE
        return Change(
            name=name,
            action=Action.CREATE if is_gone else Action.REPLACE,
            reason=reason,
            before=record.config,
            after=group.config.digest,
            vm=record.vm,
            current=record.choice,
        )

    def lost(self) -> tuple[Change, ...]:
        """Return the lost nodes; a node that planapply itself is terminating is none."""
        return tuple(
            with_end_reason(destroy(name, self.state, self.reasons[name]), self.refreshed)
            for name in sorted(self.reasons, key=sort_key)
            if self.reasons[name] is not ChangeReason.TERMINATION_IN_PROGRESS
        )

    def new_attempts(self, created: Iterable[str]) -> dict[str, list[str]]:
        """Return the attempts of all nodes; a new node of an elastic group continues those of a lost one."""
        elastic = {group.name for group in self.desired.groups if group.count is None}
        counted = {g.name: g.count for g in self.desired.groups if g.count is not None}
        kept: dict[str, list[str]] = {}
        pools: dict[str, list[list[str]]] = {}
        known = known_names(self.state)
        for name, vms in self.attempts.items():
            group, index = split_name(name)
            is_lost = name in self.reasons and self.reasons[name] is not ChangeReason.SPOT_NOTICE
            is_free = name not in self.given_up and (is_lost or name not in known)
            if group in elastic - self.hindered and is_free:
                pools.setdefault(group, []).append(vms)
            elif name in known or group in self.hindered or index < counted.get(group, 0):
                kept[name] = vms
        for name in sorted(created, key=sort_key):
            pool = pools.get(split_name(name)[0], [])
            if pool and name not in known:
                kept[name] = longest = max(pool, key=len)
                pool.remove(longest)
        return kept


_ENDED = (
    ChangeReason.TERMINATION_IN_PROGRESS,
    ChangeReason.VM_STOPPED,
)
"""Losses whose VM must still be terminated, or whose termination must be completed."""
