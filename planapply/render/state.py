"""A state as people read it, with secrets hidden."""

from collections.abc import Iterator
from typing import Any

from planapply.model.names import format_names, sort_key
from planapply.model.secrets import HIDDEN, redact
from planapply.model.state import State
from planapply.render.text import BLANK_LINE, Line, align_columns, line
from planapply.render.values import format_time, format_value


def state_lines(state: State, width: int | None = None) -> list[Line]:
    """Return what exists, or may exist, according to the state.

    `width` in columns limits the table; None omits nothing.
    """
    lines = [line((f'Cluster "{state.cluster}"', "bold"), f" ({', '.join(_cloud(state))})")]
    lines.append(line(f"Lineage {state.lineage}, serial {state.serial}"))
    if state.nodes:
        lines += [BLANK_LINE, *_nodes(state, width)]
    facts = list(_facts(state))
    if facts:
        lines += [BLANK_LINE, *(line("".join(row)) for row in align_columns(facts))]
    return lines


def _cloud(state: State) -> Iterator[str]:
    yield state.provider
    for key, text in state.cloud.items():
        yield text if key == "region" else f"{key} {text}"


def _nodes(state: State, width: int | None) -> Iterator[Line]:
    rows = []
    for name in sorted(state.nodes, key=sort_key):
        node = state.nodes[name]
        kind = "  ".join(x for x in (node.size, node.zone, "spot" if node.spot else None) if x)
        addresses = "  ".join(x for x in (node.public_address, node.private_address) if x)
        rows.append([name, node.status, node.vm, addresses, kind, format_time(node.launched_at)])
    for row in align_columns(rows, width=None if width is None else width - 2):
        yield line("  ", "".join(row))


def _facts(state: State) -> Iterator[tuple[str, str]]:
    for intent in state.intents.values():
        requested = f"{format_names(intent.names)}   {format_time(intent.requested_at)}"
        yield "Requested, result unknown:", requested
    for name, resource in state.resources.items():
        yield f"{name}:", f"{resource.kind} {resource.id or '(result unknown)'}"
    if state.endpoint is not None:
        yield "Scheduler, for the nodes:", state.endpoint.private
        if state.endpoint.public:
            yield "Scheduler, for clients:", state.endpoint.public
        if state.endpoint.dashboard:
            yield "Dashboard:", state.endpoint.dashboard
    if state.tls is not None:
        yield "TLS:", f"one key pair for all nodes and clients, key {HIDDEN}"
    for key, setting in state.settings.items():
        yield f"provider.{key}:", format_value(redact(setting, key))
    for key, pin in state.pins.items():
        if key == "client" and isinstance(pin, dict) and isinstance(pin.get("packages"), list):
            pin = f"Python {pin.get('python')} with {len(pin['packages'])} packages"
        yield f"Pinned {key}:", format_value(pin)
    if state.protect:
        yield "Protected:", "no node can be destroyed or replaced"


def state_document(state: State) -> dict[str, Any]:
    """Return the state as JSON, with the TLS key and what may be secret in the spec hidden."""
    # With the salt and a digest, a short secret could be guessed.
    document = state.model_dump(
        mode="json",
        exclude={
            "secret_salt": True,
            "nodes": {"__all__": {"secrets"}},
            "intents": {"__all__": {"secrets"}},
        },
    )
    for key in ("settings", "configs", "spec", "pins"):
        document[key] = redact(document[key])
    if state.tls is not None:
        document["tls"]["key"] = HIDDEN
    return document
