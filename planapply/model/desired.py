"""The desired state: the spec with defaults merged and open choices resolved."""

import json
from collections.abc import Mapping
from math import ceil
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from planapply.model.base import Model
from planapply.model.environment_settings import ClientEnvironment, EnvironmentSettings
from planapply.model.names import SCHEDULER
from planapply.model.node import Environment, NodeConfig, Requirements
from planapply.model.spec import REQUIREMENTS, NodeSettings, SchedulerSettings, Spec, WorkerGroup

PACKAGE_SOURCES = ("packages", "requirements", "docker")
"""Keys of an environment of which it has at most one; a group that sets one inherits none."""

AT_ONCE = "100%"
"""The value of `max_unavailable` that needs no waves."""


class Group(Model):
    """One worker group: `count` nodes, or between `min` and `max` nodes."""

    name: str
    config: NodeConfig
    count: int | None = None
    min: int | None = None
    max: int | None = None
    max_unavailable: int | str = "25%"
    """Nodes that may be replaced at the same time: a number, or a percentage."""

    def wave_size(self, nodes: int) -> int:
        """Return how many nodes may be replaced at the same time if the group has this number of nodes."""
        if isinstance(self.max_unavailable, int):
            return self.max_unavailable
        return max(1, ceil(nodes * int(self.max_unavailable.removesuffix("%")) / 100))


class DesiredState(Model):
    """The desired state, which `diff` compares with the state and with what exists."""

    cluster: str
    provider: str
    settings: dict[str, Any] = {}
    """The provider's settings as JSON, with `"env:NAME"` as written in the spec."""
    security: Literal["tls", "none"] = "none"
    tags: dict[str, str] = {}
    """The cluster's tags, for its supporting resources."""
    scheduler: NodeConfig
    groups: tuple[Group, ...] = ()
    protect: bool = False
    max_cost: float | None = None
    """USD per hour."""
    max_total_cost: float | None = None
    """USD over the life of the cluster."""
    join_timeout: float = 600.0
    """Seconds."""
    spec_digest: str


class PluginInfo(Protocol):
    """The attributes of `planapply.provider.Plugin` that are used here; the data types cannot import it."""

    @property
    def settings(self) -> type[BaseModel]: ...
    @property
    def security(self) -> Literal["tls", "none"]: ...
    @property
    def ignored_settings(self) -> frozenset[str]: ...


def requirements_key(requirements: Requirements) -> str:
    """Return the key in `pins["sizes"]` for sizes chosen by `requirements`."""
    return ",".join(f"{k}={v}" for k in REQUIREMENTS if (v := getattr(requirements, k)) is not None)


def build_desired_state(spec: Spec, plugin: PluginInfo, pins: Mapping[str, Any]) -> DesiredState:
    """Return the desired state that `spec` describes.

    `pins` are the choices recorded in `State.pins`. Sizes chosen by requirements (also by none) are in
    `pins["sizes"]`; a config keeps its `requirements` until its sizes are chosen. `pins["defaults"]`
    has other settings that the provider filled in, by sizes. `pins["client"]` is what `"client"` stands for; the
    default is the Python that read the spec.
    """
    spec_digest = spec.digest
    spec = resolve_client(spec, pins)
    cluster = spec.cluster
    security = cluster.security or plugin.security
    shared: dict[str, Any] = {
        "security": security,
        "ttl": cluster.ttl,
        "provider": _replacement_settings(spec.provider, plugin.settings),
    }

    def config(
        group: str,
        node: SchedulerSettings | WorkerGroup,
        own: EnvironmentSettings | None = None,
        **extra: Any,
    ) -> NodeConfig:
        settings = _merge(spec.defaults, node)
        settings["tags"] = {**cluster.tags, **settings.get("tags", {})}
        requirements = {key: settings.pop(key) for key in REQUIREMENTS if key in settings}
        node_settings = {
            key: value for key, value in settings.items() if key not in plugin.ignored_settings
        }
        if "size" not in node_settings and "size" not in plugin.ignored_settings:
            node_settings |= _resolve_size(Requirements(**requirements), pins)
        node_settings = {
            **pins.get("defaults", {}).get(",".join(node_settings.get("size", ())), {}),
            **node_settings,
        }
        environment = merge_environments(spec.environment, own, plugin.ignored_settings)
        return NodeConfig(
            group=group,
            cls=node.cls,
            options=node.options,
            environment=_build_environment(environment),
            **node_settings,
            **shared,
            **extra,
        )

    return DesiredState(
        cluster=cluster.name,
        provider=cluster.provider,
        settings=spec.provider,
        security=security,
        tags=cluster.tags,
        scheduler=config(
            SCHEDULER,
            spec.scheduler,
            idle_timeout=cluster.idle_timeout,
            no_client_timeout=cluster.no_client_timeout,
        ),
        groups=tuple(
            Group(
                name=name,
                config=config(name, group, group.environment, processes=group.processes),
                count=group.count,
                min=None if group.max is None else group.min or 0,
                max=group.max,
                max_unavailable=group.max_unavailable,
            )
            for name, group in spec.workers.items()
        ),
        protect=cluster.protect,
        max_cost=cluster.max_cost,
        max_total_cost=cluster.max_total_cost,
        join_timeout=cluster.join_timeout,
        spec_digest=spec_digest,
    )


def _merge(defaults: NodeSettings, node: NodeSettings) -> dict[str, Any]:
    """Return the settings of both; those of `node` take precedence, and tables are merged."""
    inherited, own = (
        {
            key: getattr(settings, key)
            for key in NodeSettings.model_fields
            if key in settings.model_fields_set
        }
        for settings in (defaults, node)
    )
    if "size" in own:
        inherited = {key: value for key, value in inherited.items() if key not in REQUIREMENTS}
    elif not own.keys().isdisjoint(REQUIREMENTS):
        inherited.pop("size", None)
    merged_tables = {
        key: {**inherited.get(key, {}), **own.get(key, {})} for key in ("tags", "create")
    }
    return {**inherited, **own, **merged_tables}


def _resolve_size(requirements: Requirements, pins: Mapping[str, Any]) -> dict[str, Any]:
    # The chosen sizes take the place of the requirements: if other requirements lead to the same sizes,
    # there is no reason to replace the VM.
    sizes = pins.get("sizes", {}).get(requirements_key(requirements))
    if sizes:
        return {"size": tuple(sizes)}
    return {"requirements": requirements} if requirements != Requirements() else {}


def resolve_client(spec: Spec, pins: Mapping[str, Any]) -> Spec:
    """Return the spec with packages in place of `"client"`: those in `pins`, or of the Python that read it."""
    pinned = pins.get("client")
    client = ClientEnvironment.model_validate_json(json.dumps(pinned)) if pinned else spec.client
    if client is None:
        return spec
    root = with_packages(spec.environment, None, client)
    workers = {
        name: group
        if group.environment is None
        else group.model_copy(
            update={"environment": with_packages(group.environment, root.python, client)}
        )
        for name, group in spec.workers.items()
    }
    update = {"environment": root, **({"workers": workers} if workers else {})}
    return spec.model_copy(update=update)


def with_packages(
    settings: EnvironmentSettings, inherited_python: str | None, client: ClientEnvironment
) -> EnvironmentSettings:
    """Return an environment with packages in place of `"client"`, if it has that, and with their Python."""
    if settings.packages != "client":
        return settings
    python = settings.python or inherited_python or client.python
    return settings.model_copy(update={"packages": client.packages, "python": python})


def merge_environments(
    inherited: EnvironmentSettings,
    own: EnvironmentSettings | None,
    ignored_settings: frozenset[str] = frozenset(),
) -> EnvironmentSettings:
    """Return a group's environment: its `own`, with the keys of `[environment]` that it inherits.

    It lacks the `ignored_settings` of the provider. Keys that neither sets are not set in the result.
    """
    kept, changed = (
        {
            key: getattr(settings, key)
            for key in (settings.model_fields_set if settings else ())
            if ignored_settings.isdisjoint(("environment", f"environment.{key}"))
        }
        for settings in (inherited, own)
    )
    if not changed.keys().isdisjoint(PACKAGE_SOURCES):
        kept = {key: value for key, value in kept.items() if key not in PACKAGE_SOURCES}
    if "docker" in changed:  # the container image has a Python
        kept.pop("python", None)
    values = {**kept, **changed}
    if "env" in values:
        values["env"] = {**kept.get("env", {}), **changed.get("env", {})}
    # Not validated again: `requirements` is the text of the file by now.
    return EnvironmentSettings.model_construct(_fields_set=set(values), **values)


def _build_environment(settings: EnvironmentSettings) -> Environment:
    return Environment(**{key: getattr(settings, key) for key in settings.model_fields_set})


def _replacement_settings(values: Mapping[str, Any], settings: type[BaseModel]) -> dict[str, Any]:
    """Return the provider's settings whose change requires another VM."""
    names = set()
    for name, field in settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("effect") == "replacement":
            names.add(field.alias or name)
    return {key: value for key, value in values.items() if key in names}
