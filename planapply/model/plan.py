"""Plans: the ordered changes that lead from the state, and what exists, to the desired state."""

import shlex
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import model_validator

from planapply.model.base import Model
from planapply.model.diagnostics import Diagnostic
from planapply.model.end_reason import EndReason
from planapply.model.node import NodeConfig
from planapply.model.state import Choice, Resource

FORMAT_VERSION = 2


class Mode(StrEnum):
    """The kind of a plan, which decides what it may contain."""

    NORMAL = "normal"
    """Everything that leads to the desired state."""
    DESTROY = "destroy"
    """Destroys the cluster, or some of its nodes; needs no spec."""
    REFRESH_ONLY = "refresh-only"
    """Records drift in the state; changes nothing in the cloud."""
    SCALE = "scale"
    """Resizes elastic groups; changes nothing else."""
    HEAL = "heal"
    """Launches lost nodes again; replaces nothing because of a changed spec."""


class Action(StrEnum):
    """The action on a node or a supporting resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DESTROY = "destroy"

    @property
    def symbol(self) -> str:
        """Return the action's symbol in a printed plan."""
        return {"create": "+", "update": "~", "replace": "-/+", "destroy": "-"}[self.value]


class ChangeReason(StrEnum):
    """The reason for a change; `planapply.render.reasons` has the texts.

    If a reason needs more facts than the change's own name, VM, and fields, they are in `Change.facts`
    under the keys given here.
    """

    NEW = "new"
    """The node or resource does not exist yet."""
    VM_GONE = "vm_gone"
    """`ended`: why the VM has ended, an `EndReason`, if it is known; as in the next two."""
    VM_STOPPING = "vm_stopping"
    VM_STOPPED = "vm_stopped"
    REQUEST_UNRESOLVED = "request_unresolved"
    """An earlier launch request has no recorded result: the VM may exist."""
    REPLACE_REQUESTED = "replace_requested"
    """The option `--replace`."""
    DESTROY_REQUESTED = "destroy_requested"
    SCHEDULER_REPLACED = "scheduler_replaced"
    TERMINATION_IN_PROGRESS = "termination_in_progress"
    """An earlier apply requested the termination of the VM."""
    NOT_JOINED = "not_joined"
    """The node did not join its scheduler in time."""
    SPOT_NOTICE = "spot_notice"
    """The cloud has announced that it will reclaim the spot VM."""
    CONFIG_CHANGED = "config_changed"
    """The VM has another configuration, which the state does not contain."""
    FIELDS_CHANGED = "fields_changed"
    PLUGIN_MISSING = "plugin_missing"
    """The fields could change in place if an earlier version of planapply had not launched the VM."""
    COUNT_LOWERED = "count_lowered"
    """`after`: the group's count; `before`: the previous count, if it is known."""
    MAX_LOWERED = "max_lowered"
    """`max`: the elastic group's maximum."""
    GROUP_REMOVED = "group_removed"
    """The spec no longer has the group."""
    RESOURCE_UNNEEDED = "resource_unneeded"
    RESOURCE_GONE = "resource_gone"
    """The supporting resource was deleted."""
    DUPLICATE_VM = "duplicate_vm"
    """`node`: the node that has another VM already."""
    UNKNOWN_NODE = "unknown_node"
    """The VM's tags name no node."""
    UNKNOWN_VM = "unknown_vm"
    """The VM has the cluster's tags, but planapply did not launch it; `--terminate-unknown` was given."""
    SCALED = "scaled"
    """The group was resized. `before` and `after`: its numbers of nodes; absent in plans of `Cluster.scale`."""
    OTHER = "other"
    """`text`: the reason in a plan file of an older version, if no code corresponds to it."""


class FieldChange(Model):
    """One setting that differs; `path` is dotted as in the spec."""

    path: str
    before: Any = None
    after: Any = None
    forces_replacement: bool = True


class Change(Model):
    """The change of one node, supporting resource, or stray VM."""

    name: str
    action: Action
    kind: Literal["node", "resource", "stray"] = "node"
    """A stray is a VM of this cluster that is none of its nodes; its name is the VM's ID."""
    reason: ChangeReason
    facts: dict[str, int | str] = {}
    """More facts for the text of the reason; see `ChangeReason`."""
    fields: tuple[FieldChange, ...] = ()
    before: str | None = None
    """Digest of the current configuration, a key of `Plan.configs`."""
    after: str | None = None
    """Digest of the desired configuration, a key of `Plan.configs`."""
    vm: str | None = None
    """The VM that is terminated or updated."""
    current: Choice | None = None
    """Size, zone, and market of that VM, which may be an alternative of its configuration."""

    @property
    def is_reclaimed(self) -> bool:
        """Return whether the cloud has taken back the node's previous VM, or has announced it."""
        return (
            self.reason is ChangeReason.SPOT_NOTICE
            or self.facts.get("ended") == EndReason.RECLAIMED.value
        )

    @model_validator(mode="after")
    def _check_facts(self) -> Self:
        fact = _REQUIRED_FACTS.get(self.reason)
        if fact is not None and fact not in self.facts:
            raise ValueError(
                f"a change with the reason {self.reason.value} needs the fact {fact!r}"
            )
        return self


_REQUIRED_FACTS = {
    ChangeReason.COUNT_LOWERED: "after",
    ChangeReason.MAX_LOWERED: "max",
    ChangeReason.DUPLICATE_VM: "node",
    ChangeReason.OTHER: "text",
}


class ResourceDrift(Model):
    """How a supporting resource differs from what planapply created."""

    exists: bool = True
    fields: tuple[FieldChange, ...] = ()
    """`before` is what exists, `after` what planapply has set."""


class DriftKind(StrEnum):
    """How what exists differs from the state."""

    GONE = "gone"
    """The VM does not exist."""
    STOPPING = "stopping"
    """The VM is shutting down, and not because of planapply."""
    STOPPED = "stopped"
    ADOPTED = "adopted"
    """The VM is a node of the cluster, but was not in the state."""
    STRAY = "stray"
    """The VM has the cluster's tags, but is none of its nodes."""
    UNKNOWN = "unknown"
    """The VM has the cluster's tags, but planapply did not launch it."""
    ADDRESS = "address"
    """The VM has another address."""
    CHANGED = "changed"
    """Tags that planapply set on the VM, or settings of a supporting resource, were changed or removed."""
    REGROUPED = "regrouped"
    """The VM is in other security groups than that of the cluster. planapply reports it, and does not move
    the VM back."""
    DELETED = "deleted"
    """The supporting resource does not exist."""


class DriftItem(Model):
    """One difference between the state and what exists."""

    name: str
    """The node or supporting resource; for a stray or unknown VM, its ID."""
    kind: DriftKind
    vm: str | None = None
    """None for a supporting resource."""
    ended: EndReason | None = None
    """Why the VM has ended; None if it runs, or if planapply terminates it."""
    fields: tuple[FieldChange, ...] = ()
    """The differences: `before` is what exists, `after` what planapply has set, except for an address, whose
    new value is `after`."""

    @property
    def is_recordable(self) -> bool:
        """Return whether a refresh-only apply removes this difference."""
        return self.kind in (DriftKind.GONE, DriftKind.ADOPTED, DriftKind.ADDRESS)


class Cost(Model):
    """The cost of a cluster in USD per hour; None if a price is unknown, which does not mean free."""

    before: float | None = None
    """The cost of the VMs that exist."""
    after: float | None = None
    """The expected cost: each new VM is the first of its alternatives."""
    highest: float | None = None
    """The cost if each new VM is its most expensive alternative that `max_cost` allows; None if it is
    `after`."""
    limit: float | None = None
    """`max_cost` in the spec."""
    unknown: tuple[str, ...] = ()
    """Items without a known price, such as sizes, which are not included in `after`."""
    unknown_before: tuple[str, ...] = ()
    """Items without a known price, which are not included in `before`."""
    source: str = ""
    """The origin and date of the prices."""
    not_counted: tuple[str, ...] = ()
    """Kinds of costs that are not included."""


class ElasticGroup(Model):
    """The bounds of an elastic group, and its number of nodes when the plan is applied."""

    nodes: int
    min: int
    max: int


class PlanRequest(Model):
    """The options that a plan was made with; with the same options, the same plan can be made again."""

    refresh: bool = True
    targets: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    terminate_unknown: bool = False
    refresh_client: bool = False
    sizes: dict[str, int] = {}
    """The requested numbers of nodes of elastic groups."""

    def command(self, name: str, mode: Mode, *more: str) -> str:
        """Return the command `name` (plan, apply, or destroy) with these options, to be typed again."""
        if mode is Mode.SCALE:
            sizes = [f"{group}={size}" for group, size in self.sizes.items()]
            return shlex.join(["planapply", "scale", *sizes, *more])
        options = [
            ("--destroy", mode is Mode.DESTROY and name != "destroy"),
            ("--refresh-only", mode is Mode.REFRESH_ONLY),
            ("--no-refresh", not self.refresh and name != "destroy"),
            ("--terminate-unknown", self.terminate_unknown and name != "plan"),
            ("--refresh-client", self.refresh_client),
        ]
        words = [option for option, is_given in options if is_given]
        words += [word for target in self.targets for word in ("--target", target)]
        words += [word for target in self.replace for word in ("--replace", target)]
        return shlex.join(["planapply", name, *words, *more])


class Plan(Model):
    """Everything that `apply` will do: a saved plan needs no spec to be applied."""

    format_version: int = FORMAT_VERSION
    cluster: str
    provider: str
    mode: Mode = Mode.NORMAL
    lineage: str | None
    """None if there is no state yet."""
    serial: int
    """The serial of the state that the plan was made from; with any other serial, the plan is stale."""
    spec_digest: str | None
    """The digest of the whole spec; None for a plan that needs no spec."""
    cloud: dict[str, str] = {}
    settings: dict[str, Any] = {}
    security: Literal["tls", "none"] = "none"
    join_timeout: float = 600.0
    """Seconds."""
    configs: dict[str, NodeConfig] = {}
    changes: tuple[Change, ...] = ()
    drift: tuple[DriftItem, ...] = ()
    """The drift that the refresh found; empty without a refresh."""
    tags: dict[str, str] = {}
    """Tags for supporting resources."""
    resources: dict[str, Resource] | None = None
    """The supporting resources after the plan; None in a plan to destroy, or of an older version."""
    request: PlanRequest | None = None
    """None in a plan of an older version."""
    overrides: tuple[str, ...] = ()
    """The `--set` options that the plan was made with."""
    protect: bool = False
    recorded: tuple[FieldChange, ...] = ()
    """Settings of the whole cluster that differ from the state, in which an apply only records them."""
    edited: tuple[FieldChange, ...] = ()
    """Settings of the spec that were edited since it was applied, and that neither `changes` nor `recorded`
    show; an apply only records them."""
    next_index: dict[str, int] = {}
    waves: tuple[tuple[str, ...], ...] = ()
    """The nodes that are launched, in waves: each begins when the nodes of the previous one have joined (in a
    round of `watch`, which does not wait, when they were launched). Empty if all are launched at once. Nodes
    that are destroyed leave with the first wave."""
    elastic: dict[str, ElasticGroup] = {}
    """Elastic groups by name: `scale` and `adapt` change their size, plans do not."""
    pins: dict[str, Any] = {}
    cost: Cost | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def unrecorded(self) -> tuple[DriftItem, ...]:
        """Return the drift that no change shows: an apply only records it."""
        return tuple(item for item in self.drift if item.kind is DriftKind.ADDRESS)

    @property
    def summary(self) -> dict[str, int]:
        """Return the numbers of additions, updates in place, and destructions; a replacement counts as
        an addition and a destruction.
        """
        actions = [change.action for change in self.changes]
        return {
            "add": sum(a in (Action.CREATE, Action.REPLACE) for a in actions),
            "change": actions.count(Action.UPDATE),
            "destroy": sum(a in (Action.DESTROY, Action.REPLACE) for a in actions),
        }
