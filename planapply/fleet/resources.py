"""What a cluster needs beside VMs: recorded before it is made, and until it is confirmed gone."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from planapply.fleet.journal import Journal
from planapply.fleet.launch import Listener
from planapply.fleet.request import cluster_tags
from planapply.fleet.retry import Patience
from planapply.model.event import Event
from planapply.model.state import Resource, State
from planapply.provider import ErrorKind, Prepares, ProviderError

UNKNOWN = frozenset({ErrorKind.UNKNOWN})
LONGEST_END = (
    600.0  # seconds: a security group is in use until the last VM's network interface is gone
)


@dataclass
class Resources:
    """Makes and removes supporting resources, one after the other."""

    provider: Prepares
    journal: Journal
    patience: Patience
    tell: Listener

    def prepare(self, needed: Mapping[str, Resource], tags: Mapping[str, str]) -> None:
        """Make what is not there; the provider finds by its tags what an earlier try has made.

        What is wanted otherwise than before is changed in place, the same way.
        """
        for name, wanted in needed.items():
            recorded = self.journal.read(lambda state, name=name: state.resources.get(name))  # type: ignore[misc]
            if recorded is not None and recorded.id is not None and not recorded.lacks(wanted):
                continue
            resource = wanted
            if recorded is not None:  # with what it has besides, though it has to be made again
                detail = {**recorded.detail, **wanted.detail}
                resource = recorded.model_copy(update={"detail": detail})
            if resource.id is None:
                self._record(name, resource)
            all_tags = {**tags, **self.journal.read(cluster_tags)}
            made = self.patience.call(
                partial(self.provider.prepare, name, resource, all_tags), also=UNKNOWN
            )
            self._record(name, made)
            done = "made" if resource.id is None else "changed"
            message = f"{done} {made.kind} {made.id}"
            self.tell(Event(event="resource", names=(name,), message=message))

    def forget_gone(self) -> None:
        """Take the ids of those that are not there out of the state: the next plan makes them.

        For use when they are old enough to be seen.
        """
        recorded = self.journal.read(lambda state: dict(state.resources))
        tags = self.journal.read(cluster_tags)
        found = self.patience.call(lambda: self.provider.find_resources(tags), also=UNKNOWN)
        for name, resource in recorded.items():
            if resource.id is not None and name not in found:
                self._record(name, resource.model_copy(update={"id": None}))
                message = f"the {resource.kind} {resource.id} is gone; the next apply makes another"
                self.tell(Event(event="note", names=(name,), message=message))

    def cleanup(self) -> None:
        """Remove all, those too whose answer was never recorded."""
        recorded = self.journal.read(lambda state: dict(state.resources))
        if not recorded:
            return
        tags = self.journal.read(cluster_tags)
        found = self.patience.call(lambda: self.provider.find_resources(tags), also=UNKNOWN)
        for name, resource in recorded.items():
            existing = found.get(name, resource)
            if existing.id is not None:
                self._remove(name, existing)
            self.journal.update(lambda state, name=name: _forget(state, name))  # type: ignore[misc]
            self.tell(Event(event="resource", names=(name,), message=f"removed {existing.kind}"))

    def _remove(self, name: str, resource: Resource) -> None:
        failed = 0

        def cleanup() -> None:
            nonlocal failed
            try:
                self.provider.cleanup(resource)
            except ProviderError as error:
                failed += 1
                # At first it may be that VMs of ours are only just leaving it.
                if failed == 2 and error.kind is ErrorKind.UNAVAILABLE:
                    message = f"to remove the {resource.kind}: {error.summary}"
                    self.tell(Event(event="waiting", names=(name,), message=message))
                raise

        self.patience.call(cleanup, also=UNKNOWN, limit=LONGEST_END)

    def _record(self, name: str, resource: Resource) -> None:
        def record(state: State) -> None:
            state.resources[name] = resource

        self.journal.update(record)


def _forget(state: State, name: str) -> None:
    state.resources.pop(name, None)
