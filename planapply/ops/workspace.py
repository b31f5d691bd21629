"""The objects of one command: a spec or a state, its store, and its provider."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from planapply import catalog, specfile
from planapply.fleet import Listener, ProviderClient, SystemClock, connect_provider
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.paths import expand_home
from planapply.model.secrets import mask_urls
from planapply.model.spec import HookSettings, Spec
from planapply.model.state import State
from planapply.ops.recorded_spec import recorded_spec
from planapply.provider import Plugin
from planapply.store import AWSSettings, Store, open_store


@dataclass(frozen=True)
class Hooks:
    """The hooks of a local file. Never those of a state or a plan file, which others may have written."""

    settings: HookSettings = field(default_factory=HookSettings)
    folder: str = "."
    """The file's folder, in which hooks run."""
    cluster: str | None = None
    """The only cluster for which to run them; None for any."""

    @classmethod
    def of_file(cls, file: str) -> "Hooks":
        """Return the hooks in a file for `watch --hooks`; raises PlanapplyError if it has none."""
        file = expand_home(file)
        return cls(specfile.read_hooks(file), str(Path(file).parent))


@dataclass
class Workspace:
    """Objects of one command; use `from_spec` if it needs the spec, and `from_state` if a state is enough."""

    store: Store
    spec: Spec | None = None
    diagnostics: Sequence[Diagnostic] = ()
    """Warnings of the spec."""
    clock: SystemClock = field(default_factory=SystemClock)
    overrides: Sequence[str] = ()
    """Values of `--set`."""
    on_event: Listener = lambda event: None
    """Gets an event while the provider is throttled or unavailable."""
    is_spec_recorded: bool = False
    """Whether the spec is the one that the state records."""
    protect: bool = False
    """Value of `protect` in the spec, if nothing else of the spec is read."""
    names_provider: bool = True
    """Whether the spec exists, from which `planapply list` takes the provider."""
    hooks: Hooks = Hooks()
    has_spec_file: bool = True
    """Whether `spec`, if any, is a file; otherwise it has nothing but a name and a provider's settings."""

    @classmethod
    def from_spec(
        cls,
        file: str,
        overrides: Sequence[str] = (),
        state: str | None = None,
        *,
        import_classes: bool = False,
        with_hooks: bool = False,
    ) -> "Workspace":
        """Return the workspace of a spec, with the state at `state` or at the spec's location.

        `import_classes` is as in `specfile.load`; without `with_hooks`, the spec's hooks do not run. Raises
        PlanapplyError with everything that is wrong with the spec.
        """
        if "://" in file:
            raise PlanapplyError(
                f"cannot read the spec {mask_urls(file)}: a spec is a file, not a URL",
                "Name the spec's file. The URL of a state belongs to `state` under [cluster], or to --state "
                "(in Python, `state=`).",
            )
        file = expand_home(file)
        spec, diagnostics = specfile.load(
            Path(file), catalog.load_plugin, overrides, import_classes=import_classes
        )
        location = spec.state_location(file) if state is None else state
        aws = AWSSettings.of_provider(spec.cluster.provider, spec.provider)
        hooks = Hooks(spec.hooks, str(Path(file).parent)) if with_hooks else Hooks()
        return cls(open_store(location, aws), spec, diagnostics, overrides=overrides, hooks=hooks)

    @classmethod
    def from_options(
        cls,
        cluster: str,
        provider: str,
        overrides: Sequence[str] = (),
        *,
        state: str,
    ) -> "Workspace":
        """Return a workspace with a spec made from command-line options; raises PlanapplyError."""
        spec, diagnostics = specfile.make_spec(cluster, provider, catalog.load_plugin, overrides)
        aws = AWSSettings.of_provider(provider, spec.provider)
        store = open_store(state, aws)
        return cls(store, spec, diagnostics, overrides=overrides, has_spec_file=False)

    @classmethod
    def from_state(
        cls,
        file: str,
        overrides: Sequence[str] = (),
        state: str | None = None,
        if_missing: str = "",
        *,
        with_hooks: bool = False,
    ) -> "Workspace":
        """Return a workspace with the state at `state`, or else with the state of the spec `file`.

        Of the spec, only the location of its state is read, and its hooks if `with_hooks`; `file` may also
        be a state. With `state`, the hooks are used only if the spec names the same cluster. Raises
        PlanapplyError if `file` does not exist, with the advice `if_missing`.
        """
        file = expand_home(file)
        hooks = _find_hooks(file, overrides, state) if with_hooks else Hooks()
        if state is not None:
            return cls(open_store(state), names_provider=Path(file).exists(), hooks=hooks)
        protect = specfile.is_protected(Path(file), overrides)
        location = specfile.find_state_location(Path(file), overrides, if_missing)
        aws = AWSSettings.of_provider(*specfile.find_provider(Path(file), overrides))
        return cls(open_store(location, aws), protect=protect, hooks=hooks)

    def read(
        self,
        if_missing: str = "Run `planapply apply` first; or, if the state is elsewhere, pass --state.",
    ) -> State:
        """Return the state; raises PlanapplyError if there is none, with the advice `if_missing`."""
        state = self.store.read()
        if state is None:
            list_clusters = f"planapply list{'' if self.names_provider else ' --provider PROVIDER'}"
            raise PlanapplyError(
                f"there is no state at {self.store.location}",
                f"{if_missing} `{list_clusters}` shows clusters whose state is elsewhere or lost.",
                code="state_missing",
            )
        return state

    def follow(self, state: State) -> None:
        """Take over the spec that the state records, unless this workspace has a spec of its own."""
        if self.spec is None or self.is_spec_recorded:
            self.spec, self.is_spec_recorded = recorded_spec(state), True

    def plugin(self, state: State | None) -> Plugin:
        """Return the plug-in of the spec, or else of the state; raises PlanapplyError if they differ."""
        name = self.spec.cluster.provider if self.spec else state.provider if state else ""
        if state and not state.is_empty and state.provider != name:
            raise PlanapplyError(
                f"cannot change the provider of a cluster from {state.provider!r} to {name!r}",
                "Destroy the cluster first: "
                f"`planapply destroy --state {shlex.quote(self.store.location)}`",
            )
        return catalog.load_plugin(name)

    def connect(self, state: State | None) -> ProviderClient:
        """Return the provider's client, with the settings of the spec, or else of the state.

        Raises PlanapplyError if the state was made in another account, region, …
        """
        plugin = self.plugin(state)
        values = self.spec.provider if self.spec else state.settings if state else {}
        client = connect_provider(plugin, values, self.clock, lambda event: self.on_event(event))
        if state is not None and not state.is_empty:
            check_cloud(state, client.identity())
        return client


def _find_hooks(file: str, overrides: Sequence[str], state: str | None) -> Hooks:
    """Return the hooks of the spec for a command that needs only a state."""
    cluster = None
    if state is not None:
        # The spec may be that of another cluster: the default one of this folder.
        cluster = specfile.find_cluster_name(file, overrides)
        if not isinstance(cluster, str):
            return Hooks()
    return Hooks(specfile.find_hooks(file, overrides), str(Path(file).parent), cluster)


def check_cloud(state: State, identity: Mapping[str, str]) -> None:
    """Raise PlanapplyError if the state was made in another cloud, where no VM of it would be visible."""
    different = [
        f"{key} is {identity.get(key)}, but the state was made with {state.cloud[key]}"
        for key in state.cloud
        if identity.get(key) != state.cloud[key]
    ]
    if different:
        raise PlanapplyError(
            f"the state of cluster {state.cluster!r} belongs to another cloud",
            "; ".join(different) + ". Use the account, region, or machine that it was made with.",
        )
