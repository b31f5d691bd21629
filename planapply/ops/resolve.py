"""What the spec leaves to the provider is chosen once, and kept while the cluster exists."""

from collections.abc import Callable
from typing import Any

from planapply.model.desired import Desired, desired, requirements_key
from planapply.model.node import NodeConfig, Requirements
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.ops.workspace import Workspace, asking
from planapply.provider import Chooses, Pins, Plugin, Provider


def pinned(
    workspace: Workspace, plugin: Plugin, provider: Provider, spec: Spec, state: State
) -> tuple[Desired, dict[str, Any]]:
    """What the spec wants with nothing left open, and the pins that say how it was closed.

    Only what this spec needs and no earlier plan has chosen is asked of the provider: an unchanged
    spec costs no call, and what is not needed any more is forgotten. Raises PlanapplyError.
    """
    known = {} if state.is_empty else state.pins

    def ask(call: Any, argument: Any) -> Any:
        return asking(lambda: workspace.patience.call(lambda: call(argument)))

    sizes: dict[str, list[str]] = {}
    if isinstance(provider, Chooses):
        for config in configs_of(desired(spec, plugin, {})):
            if not config.size:
                needed = config.requirements or Requirements()
                key = requirements_key(needed)
                sizes[key] = (
                    sizes.get(key)
                    or known.get("sizes", {}).get(key)
                    or ask(provider.choose, needed)
                )
    defaults: dict[str, dict[str, Any]] = {}
    if isinstance(provider, Pins):
        for config in configs_of(desired(spec, plugin, {"sizes": sizes})):
            key = ",".join(config.size)
            if config.image is None and key not in defaults:
                earlier = known.get("defaults", {})
                defaults[key] = earlier.get(key) or _default(
                    config, earlier, lambda config: ask(provider.pins, config)
                )
    pins = {key: value for key, value in (("sizes", sizes), ("defaults", defaults)) if value}
    return desired(spec, plugin, pins), pins


def _default(
    config: NodeConfig, earlier: dict[str, Any], ask: Callable[[NodeConfig], dict[str, Any]]
) -> dict[str, Any]:
    """What was chosen for another list with some of these sizes, if it would be the same today:
    nodes stay when a list of sizes is changed."""
    chosen = ask(config)
    for key, kept in earlier.items():
        sizes = tuple(key.split(","))
        if {*sizes} & {*config.size} and ask(config.model_copy(update={"size": sizes})) == chosen:
            return dict(kept)
    return chosen


def configs_of(want: Desired) -> list[NodeConfig]:
    """The scheduler's, and each group's."""
    return [want.scheduler, *(group.config for group in want.groups)]
