"""Shell completion of node and group names, from local files; a name that cannot be found is not offered."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli
import typer

from planapply.model.names import (
    GROUP_NAME,
    SCHEDULER,
    is_node_name,
    node_name,
    sort_key,
    split_name,
)

VARIABLE = "_PLANAPPLY_COMPLETE"
"""Environment variable in which a shell asks for completions."""
MAX_NAMES = 1000
"""Maximum number of names that are offered."""


def is_completing() -> bool:
    """Return whether a shell asks for completions, so that nothing else may be printed."""
    return VARIABLE in os.environ


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the nodes whose names begin like this."""
    names = sorted(_names(ctx)[0], key=sort_key)
    return [name for name in names if name.startswith(incomplete)][:MAX_NAMES]


def complete_nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the groups and nodes whose names begin like this."""
    nodes, groups = _names(ctx)
    names = [*sorted(groups), *sorted(nodes, key=sort_key)]
    return [name for name in names if name.startswith(incomplete)][:MAX_NAMES]


def complete_size(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the bounds of the elastic groups whose names begin like this, such as `cpu=0` and `cpu=9`.

    With two of them, a shell completes up to the number.
    """
    groups = _names(ctx)[1]
    sizes = [f"{name}={size}" for name in sorted(groups) for size in groups[name]]
    return [text for text in sizes if text.startswith(incomplete)]


def _names(ctx: typer.Context) -> tuple[set[str], dict[str, list[int]]]:
    """Return the nodes, and the groups with their bounds, which only an elastic group has.

    The nodes are those of the state, or, if the state is not a local file, those of the spec.
    """
    file = str(ctx.params.get("file") or "planapply.toml")
    nodes: set[str] = set()
    groups: dict[str, list[int]] = {}
    spec: Any = {}
    with suppress(Exception):  # the file may be anything, or missing
        spec = tomli.loads(Path(file).expanduser().read_text())
    with suppress(Exception):
        state = _read_state(ctx, file)
        nodes = {str(name) for name in state["nodes"]}
        groups = {split_name(name)[0]: [] for name in nodes - {SCHEDULER}}
        groups |= dict(_groups(state.get("spec")))
    with suppress(Exception):
        groups = dict(_groups(spec)) | groups
        if spec and not nodes:
            nodes = {SCHEDULER, *_counted_nodes(spec)}
    # A shell may run what it gets, and others can write these files: nothing but names is offered.
    return {name for name in nodes if is_node_name(name)}, {
        name: bounds for name, bounds in groups.items() if GROUP_NAME.fullmatch(name)
    }


def _read_state(ctx: typer.Context, file: str) -> Any:
    from planapply.specfile import find_state_location

    location = ctx.params.get("state")
    location = location or find_state_location(
        Path(file).expanduser(), ctx.params.get("overrides") or ()
    )
    return json.loads(Path(location).expanduser().read_bytes())


def _groups(spec: Any) -> Iterator[tuple[str, list[int]]]:
    if spec:
        for name, group in spec.get("workers", {}).items():
            most = group.get("max")
            bounds = set() if most is None else {int(group.get("min") or 0), int(most)}
            yield str(name), sorted(bounds)


def _counted_nodes(spec: Any) -> Iterator[str]:
    for name, group in spec.get("workers", {}).items():
        for index in range(min(int(group.get("count", 0)), MAX_NAMES)):
            yield node_name(str(name), index)
