"""The resolution of choices that the spec leaves to the provider; they are made once and kept."""

from typing import Any

from planapply.fleet import ProviderClient
from planapply.model.desired import DesiredState, build_desired_state, requirements_key
from planapply.model.node import NodeConfig, Requirements
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.provider import Plugin


def resolve_spec(
    plugin: Plugin, client: ProviderClient, spec: Spec, state: State
) -> tuple[DesiredState, dict[str, Any]]:
    """Return the desired state with every choice made, and the pins that record the choices.

    The provider is called only for choices that this spec needs and that no earlier plan made, so an
    unchanged spec causes no call. Choices that are no longer needed are dropped. Raises PlanapplyError.
    """
    known = {} if state.is_empty else state.pins

    sizes: dict[str, list[str]] = {}
    if client.can_choose:
        for config in configs_of(build_desired_state(spec, plugin, {})):
            if not config.size:
                needed = config.requirements or Requirements()
                key = requirements_key(needed)
                sizes[key] = (
                    sizes.get(key) or known.get("sizes", {}).get(key) or client.choose(needed)
                )
    defaults: dict[str, dict[str, Any]] = {}
    if client.has_pins:
        for config in configs_of(build_desired_state(spec, plugin, {"sizes": sizes})):
            key = ",".join(config.size)
            if config.image is None and key not in defaults:
                earlier = known.get("defaults", {})
                defaults[key] = earlier.get(key) or _resolve_default(config, earlier, client)
    pins = {key: value for key, value in (("sizes", sizes), ("defaults", defaults)) if value}
    return build_desired_state(spec, plugin, pins), pins


def _resolve_default(
    config: NodeConfig, earlier: dict[str, Any], client: ProviderClient
) -> dict[str, Any]:
    """Return the provider's defaults for a config.

    If they are what the provider would choose today for another list with some of the same sizes, return
    what was chosen for that list: then nodes stay when a list of sizes changes.
    """
    chosen = client.pins(config)
    for key, kept in earlier.items():
        sizes = tuple(key.split(","))
        if {*sizes} & {*config.size} and client.pins(
            config.model_copy(update={"size": sizes})
        ) == chosen:
            return dict(kept)
    return chosen


def configs_of(desired_state: DesiredState) -> list[NodeConfig]:
    """Return the configs of the scheduler and of each group."""
    return [desired_state.scheduler, *(group.config for group in desired_state.groups)]
