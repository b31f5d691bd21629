"""The ordered changes that take state and observed to the spec."""

from enum import StrEnum
from typing import Any, Literal

from planapply.model.base import Model
from planapply.model.diagnostics import Diagnostic
from planapply.model.node import NodeConfig


class Action(StrEnum):
    """What happens to a node or a supporting resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DESTROY = "destroy"

    @property
    def symbol(self) -> str:
        """As it stands in a printed plan."""
        return {"create": "+", "update": "~", "replace": "-/+", "destroy": "-"}[self.value]


class FieldChange(Model):
    """One setting that differs; `path` is dotted as in the spec."""

    path: str
    before: Any = None
    after: Any = None
    forces_replacement: bool = True


class Change(Model):
    """One node that changes, and why."""

    name: str
    action: Action
    kind: Literal["node", "resource", "stray"] = "node"
    """A stray is a VM of this cluster that can't be one of its nodes; its name is its id."""
    reason: str
    fields: tuple[FieldChange, ...] = ()
    before: str | None = None
    """Digest of what it was made from, a key of `Plan.configs`."""
    after: str | None = None
    """Digest of what it shall be made from, a key of `Plan.configs`."""
    vm: str | None = None
    """The VM that ends or is updated."""


class Cost(Model):
    """USD an hour; None where a price is unknown, which is not free."""

    before: float | None = None
    after: float | None = None
    unknown: tuple[str, ...] = ()
    """What has no price, such as sizes, and is not in `after`."""
    unknown_before: tuple[str, ...] = ()
    """What has no price, and is not in `before`."""
    source: str = ""
    """Whose prices, and of which day."""


class ElasticGroup(Model):
    """An elastic group's bounds, and how many nodes it has once the plan is applied."""

    nodes: int
    min: int
    max: int


class Plan(Model):
    """What `apply` will do, whole: a saved one needs no spec to be applied."""

    format_version: int = 1
    cluster: str
    provider: str
    lineage: str | None
    """None: there is no state yet."""
    serial: int
    """The state's serial that it was made from; another one makes it stale."""
    spec_digest: str | None
    """Of the whole spec; None for a plan that needs none, such as destroy."""
    cloud: dict[str, str] = {}
    settings: dict[str, Any] = {}
    security: Literal["tls", "none"] = "none"
    join_timeout: float = 600.0
    """Seconds."""
    configs: dict[str, NodeConfig] = {}
    changes: tuple[Change, ...] = ()
    tags: dict[str, str] = {}
    """For supporting resources."""
    overrides: tuple[str, ...] = ()
    """What `--set` said when it was made."""
    protect: bool = False
    refresh_only: bool = False
    """Only what the cloud has changed is recorded."""
    next_index: dict[str, int] = {}
    elastic: dict[str, ElasticGroup] = {}
    """By group: `scale` and `adapt` move their size, not a plan, and the plan says so."""
    pins: dict[str, Any] = {}
    cost: Cost | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def summary(self) -> dict[str, int]:
        """How many are added, changed in place and destroyed; a replacement is an add and a destroy."""
        actions = [change.action for change in self.changes]
        return {
            "add": sum(a in (Action.CREATE, Action.REPLACE) for a in actions),
            "change": actions.count(Action.UPDATE),
            "destroy": sum(a in (Action.DESTROY, Action.REPLACE) for a in actions),
        }
