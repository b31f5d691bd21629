"""Supporting resources of a cluster, recorded before they are created and until they are gone."""

from collections.abc import Mapping
from dataclasses import dataclass

from planapply.fleet.journal import Journal
from planapply.fleet.launch import Listener
from planapply.fleet.provider_client import ProviderClient
from planapply.model.event import Event
from planapply.model.plan import Action, ResourceDrift
from planapply.model.state import Resource, State
from planapply.model.tags import cluster_tags
from planapply.provider import ErrorKind, ProviderError

CLEANUP_TIMEOUT = 600.0
"""Seconds: a security group is in use until the last VM's network interface is gone."""


@dataclass
class ResourceManager:
    """Creates and removes supporting resources, one after the other."""

    client: ProviderClient
    journal: Journal
    on_event: Listener

    def prepare(
        self,
        desired_resources: Mapping[str, Resource],
        tags: Mapping[str, str],
        drift: Mapping[str, ResourceDrift],
    ) -> None:
        """Create the resources that do not exist, and change in place those that differ.

        The provider finds by its tags a resource that an earlier attempt created. `drift` says, by name, how
        what exists differs from what is recorded.
        """
        for name, desired in desired_resources.items():
            recorded = self.journal.read(lambda state, name=name: state.resources.get(name))  # type: ignore[misc]
            if (
                recorded is not None
                and recorded.id is not None
                and not recorded.missing_details(desired)
                and name not in drift
            ):
                continue
            resource = desired
            if recorded is not None:  # keep its other details, even if it is created again
                detail = {**recorded.detail, **desired.detail}
                is_deleted = name in drift and not drift[name].exists
                id = None if is_deleted else recorded.id
                resource = recorded.model_copy(update={"detail": detail, "id": id})
            if resource.id is None:
                self._record(name, resource)
            all_tags = {**tags, **self.journal.read(cluster_tags)}
            made = self.client.prepare(name, resource, all_tags)
            self._record(name, made)
            action = Action.CREATE if resource.id is None else Action.UPDATE
            message = f"{action.value}d {made.kind} {made.id}"
            self.on_event(Event(event="resource", names=(name,), action=action, message=message))

    def drop_gone(self) -> None:
        """Remove the ids of resources that no longer exist; then the next plan creates them.

        Call this only when they are old enough to be visible.
        """
        recorded = self.journal.read(lambda state: dict(state.resources))
        found = self.client.find_resources(self.journal.read(cluster_tags))
        for name, resource in recorded.items():
            if resource.id is not None and name not in found:
                self._record(name, resource.model_copy(update={"id": None}))
                message = f"{resource.kind} {resource.id} no longer exists; the next apply creates another one"
                self.on_event(Event(event="note", names=(name,), message=message))

    def cleanup(self) -> None:
        """Remove all resources, including those whose creation was never confirmed."""
        recorded = self.journal.read(lambda state: dict(state.resources))
        if not recorded:
            return
        found = self.client.find_resources(self.journal.read(cluster_tags))
        for name, resource in recorded.items():
            existing = found.get(name, resource)
            if existing.id is not None:
                self._remove(name, existing)
            self.journal.update(lambda state, name=name: _drop(state, name))  # type: ignore[misc]
            self.on_event(
                Event(
                    event="resource",
                    names=(name,),
                    action=Action.DESTROY,
                    message=f"removed {existing.kind}",
                )
            )

    def _remove(self, name: str, resource: Resource) -> None:
        failed = 0

        def report(error: ProviderError) -> None:
            nonlocal failed
            failed += 1
            # The first failure may only mean that our own VMs are just leaving the resource.
            if failed == 2 and error.kind is ErrorKind.UNAVAILABLE:
                message = f"to remove the {resource.kind}: {error.summary}"
                self.on_event(Event(event="waiting", names=(name,), message=message))

        self.client.cleanup(resource, timeout=CLEANUP_TIMEOUT, on_error=report)

    def _record(self, name: str, resource: Resource) -> None:
        def record(state: State) -> None:
            state.resources[name] = resource

        self.journal.update(record)


def _drop(state: State, name: str) -> None:
    state.resources.pop(name, None)
