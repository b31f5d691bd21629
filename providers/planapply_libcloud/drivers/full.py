"""Drivers that can also change tags, show a console, and manage a firewall."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planapply.providerkit import Rule
from planapply_libcloud.drivers.base import Driver

SELF = "self"
INTERNAL_RULE: Rule = ("any", 0, 0, SELF)
"""Rule for all protocols and ports between the members of a group."""


@dataclass(frozen=True)
class Group:
    """Security group, or the firewall rules of a cluster."""

    id: str
    name: str
    rules: frozenset[Rule]


@dataclass(frozen=True)
class FullDriver(Driver):
    """Driver with more methods; each sends one request or a few, and can be repeated."""

    group_kind: str = "security group"
    in_use_code: str = ""
    """Code of the error for a group that is in use, if the cloud has one."""

    def console(self, lib: Any, id: str) -> str:
        """Return the console output, as far as the cloud keeps it."""
        raise NotImplementedError

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Replace all tags of the node by these."""
        raise NotImplementedError

    def list_groups(self, lib: Any) -> Iterable[Group]:
        """Return all groups, planapply's or not."""
        raise NotImplementedError

    def create_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        """Create an empty group, in the network of `create`; return its ID."""
        raise NotImplementedError

    def change_group(
        self, lib: Any, group: Group, added: Iterable[Rule], removed: Iterable[Rule]
    ) -> None:
        """Add rules, then remove rules."""
        raise NotImplementedError

    def remove_group(self, lib: Any, id: str) -> None:
        """Delete the group; raise what the driver raises if it is in use."""
        raise NotImplementedError

    def list_members(self, lib: Any, group: Group) -> Sequence[str]:
        """Return names of all VMs in the group; empty if a group with VMs can be deleted."""
        return ()

    def group_arguments(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `create_node` that put a VM in the group."""
        raise NotImplementedError

    def add_to_group(self, lib: Any, node: Any, id: str) -> None:
        """Add an existing VM to the group, in addition to its other groups."""
        raise NotImplementedError

    def remove_from_group(self, lib: Any, node: Any, id: str, create: Mapping[str, Any]) -> None:
        """Remove a VM from the group, if a group with VMs cannot be deleted.

        A VM in no other group is added to those of `create`, or to the default group.
        """
