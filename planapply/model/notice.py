"""Notices that a cloud gives to a spot VM before it takes the VM back."""

from enum import StrEnum

from planapply.model.base import Model


class NoticeKind(StrEnum):
    """The kind of a notice; a later one replaces an earlier one in this order."""

    REBALANCE = "rebalance"
    """The VM is at a higher risk of being reclaimed."""
    INTERRUPTION = "interruption"
    """The VM will be reclaimed within minutes; its node retires its workers itself."""


class Notice(Model):
    """The notice that a node has reported about its own VM."""

    node: str
    vm: str
    kind: NoticeKind
    time: float
    """When the node reported it, in seconds since the epoch, by the node's clock."""
