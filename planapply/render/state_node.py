"""The output of `planapply state`: one node, and a state that was copied."""

from collections.abc import Iterator, Mapping
from typing import Any

from planapply.model.node import NodeConfig
from planapply.model.secrets import redact
from planapply.model.state import State
from planapply.render.text import BLANK_LINE, Line, align_columns, line
from planapply.render.values import format_time, format_value


def node_document(state: State, name: str) -> dict[str, Any]:
    """Return everything that the state records about a node; an unknown configuration is None."""
    record = state.nodes[name]
    config = state.configs.get(record.config)
    return {
        "name": name,
        **record.model_dump(mode="json", exclude={"secrets"}),
        "made_from": None if config is None else _settings(config),
    }


def node_lines(state: State, name: str) -> list[Line]:
    """Return the same for people, without empty and default values."""
    document = node_document(state, name)
    made_from = document.pop("made_from")
    lines = [line((document.pop("name"), "bold")), *_table(document)]
    if made_from is None:
        return [*lines, BLANK_LINE, line("Its configuration is unknown.")]
    return [*lines, BLANK_LINE, line("Configuration:"), *_table(made_from)]


def _settings(config: NodeConfig) -> dict[str, Any]:
    """Return the settings by the names in the spec."""
    document = config.model_dump(mode="json", exclude_defaults=True)
    return {"class" if key == "cls" else key: redact(v, key) for key, v in document.items()}


def _table(document: Mapping[str, Any]) -> Iterator[Line]:
    rows = [
        [key, f"= {format_time(setting) if key == 'launched_at' else format_value(setting, key)}"]
        for key, setting in document.items()
        if setting not in (None, False, {}, [])
    ]
    for row in align_columns(rows, gap=1):
        yield line("  ", "".join(row))


def moved_state_document(state: State, location: str) -> dict[str, Any]:
    """Return which state is now at `location`."""
    return {
        "location": location,
        "cluster": state.cluster,
        "lineage": state.lineage,
        "serial": state.serial,
        "nodes": len(state.nodes),
    }


def moved_state_line(state: State, location: str) -> Line:
    """Return the same for people."""
    nodes = f"{len(state.nodes)} node{'' if len(state.nodes) == 1 else 's'}"
    cluster = f'cluster "{state.cluster}" ({nodes}, serial {state.serial})'
    return line(f"The state of {cluster} is now in {location}")
