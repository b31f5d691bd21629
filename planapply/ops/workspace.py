"""What one command works on: a spec or a state, its store, its provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from planapply import catalog, specfile
from planapply.fleet import ProviderClient, SystemClock, connect_provider
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.spec import Spec, state_location
from planapply.model.state import State
from planapply.provider import Plugin
from planapply.store import Store, open_store


@dataclass
class Workspace:
    """Use `from_spec` where the spec is needed, `from_state` where a state will do."""

    store: Store
    spec: Spec | None = None
    diagnostics: Sequence[Diagnostic] = ()
    """Warnings of the spec."""
    clock: SystemClock = field(default_factory=SystemClock)
    overrides: Sequence[str] = ()
    """What `--set` said."""
    protect: bool = False
    """What the spec says, where nothing else of it is read."""

    @classmethod
    def from_spec(
        cls,
        file: str,
        overrides: Sequence[str] = (),
        state: str | None = None,
        *,
        import_classes: bool = False,
    ) -> "Workspace":
        """Raises PlanapplyError with everything that is wrong with the spec; `import_classes` as
        in `specfile.load`."""
        spec, diagnostics = specfile.load(
            Path(file), catalog.load_plugin, overrides, import_classes=import_classes
        )
        location = spec.state_location(file) if state is None else state
        return cls(open_store(location), spec, diagnostics, overrides=overrides)

    @classmethod
    def from_options(
        cls,
        cluster: str,
        provider: str,
        overrides: Sequence[str] = (),
        *,
        state: str,
    ) -> "Workspace":
        """With a spec that consists of what the options say; raises PlanapplyError."""
        spec, diagnostics = specfile.make_spec(cluster, provider, catalog.load_plugin, overrides)
        return cls(open_store(state), spec, diagnostics, overrides=overrides)

    @classmethod
    def from_state(
        cls, file: str, overrides: Sequence[str] = (), state: str | None = None
    ) -> "Workspace":
        """With the state at `state`, or that of the spec, of which only its place is read.

        `file` may be a state itself. Raises PlanapplyError where neither is there.
        """
        if state is not None:
            return cls(open_store(state))
        protect = specfile.is_protected(Path(file), overrides)
        return cls(open_store(specfile.find_state_location(Path(file), overrides)), protect=protect)

    def read(self) -> State:
        """The state; raises PlanapplyError where there is none."""
        state = self.store.read()
        if state is None:
            raise PlanapplyError(
                f"there is no state at {self.store.location}",
                "Nothing was applied from there yet. Name the spec with --file or the state with "
                "--state; `planapply list` shows clusters whose state is elsewhere or lost.",
            )
        return state

    def plugin(self, state: State | None) -> Plugin:
        """That of the spec, or else of the state; raises PlanapplyError where they differ."""
        name = self.spec.cluster.provider if self.spec else state.provider if state else ""
        if state and not state.is_empty and state.provider != name:
            raise PlanapplyError(
                f"the cluster was made with provider {state.provider!r}, the spec says {name!r}",
                f"Destroy it first: planapply destroy --state {self.store.location}",
            )
        return catalog.load_plugin(name)

    def connect(self, state: State | None) -> ProviderClient:
        """The provider, with the settings of the spec, or else of the state; its cloud is checked.

        Raises PlanapplyError where the state is about another account, region, …
        """
        plugin = self.plugin(state)
        values = self.spec.provider if self.spec else state.settings if state else {}
        client = connect_provider(plugin, values, self.clock)
        if state is not None and not state.is_empty:
            check_cloud(state, client.identity())
        return client


def check_cloud(state: State, identity: Mapping[str, str]) -> None:
    """Refuse a state of somebody else's cloud, which would look empty from here."""
    different = [
        f"{key}: the state is about {state.cloud[key]}, this is {identity.get(key)}"
        for key in state.cloud
        if identity.get(key) != state.cloud[key]
    ]
    if different:
        raise PlanapplyError(
            f"the state of cluster {state.cluster!r} is about another cloud",
            "; ".join(different) + ". Use the account, region or machine that it was made in.",
        )


__all__ = [
    "Workspace",
    "check_cloud",
    "state_location",
]
