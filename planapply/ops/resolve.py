"""The resolution of choices that the spec leaves to the provider; they are made once and kept."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from planapply.fleet import ProviderClient
from planapply.model.desired import DesiredState, build_desired_state, requirements_key
from planapply.model.diagnostics import Diagnostic, PlanapplyError, note
from planapply.model.environment_settings import ClientEnvironment
from planapply.model.node import NodeConfig, Requirements
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.provider import Plugin

_MAX_SHOWN = 5
"""Differences of packages that a note lists."""


def resolve_spec(
    plugin: Plugin,
    client: ProviderClient,
    spec: Spec,
    state: State,
    saved: Mapping[str, Any] | None = None,
    *,
    refresh_client: bool = False,
) -> tuple[DesiredState, dict[str, Any]]:
    """Return the desired state with every choice made, and the pins that record the choices.

    The provider is called only for choices that this spec needs and that no earlier plan made, so an
    unchanged spec causes no call. Choices that are no longer needed are dropped. `saved` are the pins
    of a saved plan: they are used for choices that are not in the state, if the provider could have made
    them. With `refresh_client`, `"client"` stands for this Python from now on. Raises PlanapplyError.
    """
    known = {} if state.is_empty else state.pins
    proposed = {} if saved is None else saved

    client_pins = _resolve_client(spec, known, refresh_client)
    if proposed.get("client", client_pins.get("client")) != client_pins.get("client"):
        raise PlanapplyError(
            "cannot apply the plan: this Python is not the one that it was made with, and the spec has "
            '`packages = "client"`',
            "Apply it from a Python with the same packages, or plan again: `planapply plan --out FILE`",
            code="plan_invalid",
        )
    sizes: dict[str, list[str]] = {}
    if client.can_choose:
        for config in configs_of(build_desired_state(spec, plugin, client_pins)):
            if not config.size:
                needed = config.requirements or Requirements()
                key = requirements_key(needed)
                sizes[key] = (
                    sizes.get(key)
                    or known.get("sizes", {}).get(key)
                    or _checked_choice(proposed.get("sizes", {}).get(key), needed, client)
                    or client.choose(needed)
                )
    defaults: dict[str, dict[str, Any]] = {}
    if client.has_pins:
        for config in configs_of(
            build_desired_state(spec, plugin, {"sizes": sizes, **client_pins})
        ):
            key = ",".join(config.size)
            if config.image is None and key not in defaults:
                earlier = known.get("defaults", {})
                defaults[key] = (
                    earlier.get(key)
                    or _checked_default(
                        proposed.get("defaults", {}).get(key), config, earlier, client
                    )
                    or _resolve_default(config, earlier, client)
                )
    pins = {key: value for key, value in (("sizes", sizes), ("defaults", defaults)) if value}
    pins |= client_pins
    return build_desired_state(spec, plugin, pins), pins


def _resolve_client(spec: Spec, known: Mapping[str, Any], refresh: bool) -> dict[str, Any]:
    """Return the pin of what `"client"` stands for; empty if the spec does not need it.

    Never that of a saved plan: anyone who edited the file could choose what the nodes install.
    """
    if spec.client is None:
        if refresh:
            raise PlanapplyError(
                'cannot refresh the client: no node has `packages = "client"`',
                "Remove --refresh-client.",
            )
        return {}
    kept = None if refresh else known.get("client")
    if kept is None:
        return {"client": spec.client.model_dump(mode="json")}
    try:
        ClientEnvironment.model_validate_json(json.dumps(kept))
    except ValidationError:
        raise PlanapplyError(
            "cannot use `pins.client` of the state: it is damaged",
            'Restore an older version of the state, or decide again what `packages = "client"` stands for: '
            "`planapply apply --refresh-client`",
        ) from None
    return {"client": kept}


def client_notes(spec: Spec, pins: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield a note if `"client"` stands for another Python than the one that read the spec."""
    if spec.client is None or pins["client"] == spec.client.model_dump(mode="json"):
        return
    kept = ClientEnvironment.model_validate_json(json.dumps(pins["client"]))
    changes = list(_compare_clients(kept, spec.client))
    more = len(changes) - _MAX_SHOWN
    listed = ", ".join(changes[:_MAX_SHOWN]) + (f", and {more:,} more" if more > 0 else "")
    yield note(
        'this Python is not the one that `packages = "client"` stands for',
        f"The nodes keep the packages of that one. Differences: {listed}. To install the packages of this "
        "Python: `planapply apply --refresh-client`",
    )


def _compare_clients(before: ClientEnvironment, after: ClientEnvironment) -> Iterator[str]:
    if before.python != after.python:
        yield f"Python {before.python} -> {after.python}"
    old, new = (
        {re.split("==| @ ", package)[0]: package for package in client.packages}
        for client in (before, after)
    )
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            # An address may have a password.
            versions = [
                "(none)" if package is None else package.partition("==")[2] or "(from an address)"
                for package in (old.get(name), new.get(name))
            ]
            yield f"{name} {' -> '.join(dict.fromkeys(versions))}"


def _checked_choice(
    sizes: Any, requirements: Requirements, client: ProviderClient
) -> list[str] | None:
    """Return sizes of a saved plan; None without any. Raises PlanapplyError if they were changed."""
    if sizes is None:
        return None
    if not isinstance(sizes, list) or not all(isinstance(size, str) for size in sizes):
        raise _changed_error("")
    problems = client.check_choice(requirements, sizes)
    if problems:
        raise _changed_error(problems[0].summary)
    return sizes


def _checked_default(
    values: Any, config: NodeConfig, earlier: Mapping[str, Any], client: ProviderClient
) -> dict[str, Any] | None:
    """Return defaults of a saved plan; None without any. Raises PlanapplyError if they were changed."""
    if values is None:
        return None
    if not isinstance(values, dict):
        raise _changed_error("")
    if values in earlier.values():  # of another list of sizes, from the state
        return values
    problems = client.check_pins(config, values)
    if problems:
        raise _changed_error(problems[0].summary)
    return values


def _changed_error(reason: str) -> PlanapplyError:
    return PlanapplyError(
        f"cannot apply the plan file: {reason or 'its pins are damaged'}",
        "The file was changed after it was saved, or is too old.\n"
        "To plan again: `planapply plan --out FILE`",
        code="plan_invalid",
    )


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
