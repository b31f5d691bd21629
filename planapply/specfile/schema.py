"""The JSON Schema of the spec, for editors."""

from collections.abc import Sequence
from typing import Any

from planapply.model.spec import Spec
from planapply.provider import Plugin
from planapply.specfile.docstrings import describe_models

_DEFAULT_PROVIDER = "local"


def json_schema(plugins: Sequence[Plugin]) -> dict[str, Any]:
    """Return the schema, with each provider's settings and the `effect` of a change of each key."""
    describe_models()
    schema: dict[str, Any] = _simplify(Spec.model_json_schema(by_alias=True))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "planapply spec"
    for plugin in plugins:
        settings = _simplify(
            plugin.settings.model_json_schema(ref_template=f"#/$defs/{plugin.name}.{{model}}")
        )
        for name, part in settings.pop("$defs", {}).items():
            schema["$defs"][f"{plugin.name}.{name}"] = part
        schema["$defs"][plugin.name] = settings
    schema["allOf"] = [_provider_condition(plugin.name) for plugin in plugins]
    return schema


def _provider_condition(name: str) -> dict[str, Any]:
    condition: dict[str, Any] = {"properties": {"provider": {"const": name}}}
    if name != _DEFAULT_PROVIDER:
        condition["required"] = ["provider"]
    return {
        "if": {"properties": {"cluster": condition}},
        "then": {"properties": {"provider": {"$ref": f"#/$defs/{name}"}}},
    }


def _simplify(part: Any) -> Any:
    """Return the schema without null, which TOML lacks; unwrap the paragraphs of descriptions."""
    if isinstance(part, list):
        return [_simplify(item) for item in part]
    if not isinstance(part, dict):
        return part
    part = {
        key: _simplify(value) for key, value in part.items() if (key, value) != ("default", None)
    }
    branches = part.get("anyOf")
    if isinstance(branches, list) and {"type": "null"} in branches:
        branches = [branch for branch in branches if branch != {"type": "null"}]
        del part["anyOf"]
        part |= branches[0] if len(branches) == 1 else {"anyOf": branches}
    if isinstance(part.get("description"), str):
        part["description"] = unwrap_paragraphs(part["description"])
    return part


def unwrap_paragraphs(text: str) -> str:
    """Return a docstring with each of its paragraphs on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
