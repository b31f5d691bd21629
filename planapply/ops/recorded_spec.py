"""The spec last applied, which the state records, so that a cluster can be scaled from its state alone."""

import json
from typing import Any

from pydantic import ValidationError

from planapply.model.field_types import FILES_READ
from planapply.model.spec import Spec
from planapply.model.state import State
from planapply.provider import Plugin


def spec_document(spec: Spec, plugin: Plugin) -> dict[str, Any]:
    """Return a spec as JSON, without its hooks and the parts that the provider ignores and no node gets.

    A process that reads the recorded spec must not run programs that another writer of the state has chosen.
    """
    document = spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"hooks"})
    for table in (document, *document.get("workers", {}).values()):
        environment = {
            key: value
            for key, value in (table.pop("environment", None) or {}).items()
            if plugin.ignored_settings.isdisjoint(("environment", f"environment.{key}"))
        }
        if environment:
            table["environment"] = environment
    return document


def recorded_spec(state: State) -> Spec | None:
    """Return the spec that the state records, without hooks, even if the state was edited.

    Return None if there is none that this version can read: a state of an older version has none.
    """
    if state.spec is None:
        return None
    try:
        # As JSON, since a strict model accepts a list for a tuple only in JSON.
        document = {key: value for key, value in state.spec.items() if key != "hooks"}
        return Spec.model_validate_json(json.dumps(document), context=FILES_READ)
    except ValidationError:
        return None
