"""The translation of pydantic's errors into problems of the spec, with what to write instead."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from planapply.model.environment_settings import EnvironmentSettings
from planapply.model.secrets import is_secret_path
from planapply.model.spec import Spec
from planapply.model.toml import KeyPath, format_key, format_key_path, format_value
from planapply.model.validation import BOUNDS, KINDS, normalize_message
from planapply.specfile.classes import suggest_class
from planapply.specfile.problem import Problem, suggest, summarize_value

M = TypeVar("M", bound=BaseModel)

_MAX_SUGGESTION = 200
"""Characters of a value that a suggestion repeats."""


def validate_model(
    model: type[M], document: Any, parent: KeyPath
) -> tuple[M | None, list[Problem]]:
    """Return the document as a `model`, or None and its problems; `parent` is its path in the file."""
    # As JSON, since a strict model accepts a list for a tuple only in JSON.
    try:
        return model.model_validate_json(json.dumps(document)), []
    except ValidationError as error:
        return None, list(explain(error, model, document, parent))


def explain(
    error: ValidationError, model: type[BaseModel], document: Any, parent: KeyPath = ()
) -> Iterator[Problem]:
    """Yield one problem for each place of `document` that `error` names, in the order of `error`.

    `document` was validated by `model`; `parent` is the path of `document` in the file. No message
    contains a value that may be a secret. If `model` has keys for credentials, any text may be one, and
    only numbers of its other keys are shown, and no source line.
    """
    has_credentials = _has_credentials(model)
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        path = _path_in_document(item["loc"], document)
        if item["type"] in ("missing", "extra_forbidden"):
            path = item["loc"]
        found.setdefault(path, []).append(item)
    for path, items in found.items():
        is_secret = _is_secret((*parent, *path), items[0])
        is_plain = _is_plain_key(model, path) and _is_scalar(items[0]["input"])
        is_shown = not is_secret and (is_plain or not has_credentials)
        summary, detail = _describe(items, model, path, parent, not is_shown)
        where = path[:-1] if items[0]["type"] == "missing" else path
        yield Problem((*parent, *where), summary, detail, is_secret=is_secret or has_credentials)


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a table by their names in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def is_public_key(path: KeyPath) -> bool:
    """Return whether a spec has a key at `path` whose value is no secret.

    The value of any other key must not be shown: it may be that of a secret whose key is misspelled.
    """
    is_plain = all(isinstance(part, str) for part in path)
    return is_plain and not is_secret_path(path) and _field_at(Spec, path) is not None


def _is_secret(path: KeyPath, item: ErrorDetails) -> bool:
    """Return whether the value at `path` must not be shown: it may be, or contain, a secret."""
    if item["type"] in ("extra_forbidden", "missing"):
        return False
    has_user_part = path[-1:] == ("docker",) and "@" in str(item["input"])
    return is_secret_path(path) or has_user_part


def _has_credentials(model: type[BaseModel]) -> bool:
    """Return whether a key of the model has an example "env:NAME", as keys for credentials have."""
    return any(map(_is_credential, keys_of(model).values()))


def _is_credential(field: FieldInfo) -> bool:
    examples = field.examples or []
    return any(isinstance(example, str) and example.startswith("env:") for example in examples)


def _is_plain_key(model: type[BaseModel], path: KeyPath) -> bool:
    """Return whether `path` is a key of `model` that is neither for a credential nor a table."""
    field = keys_of(model).get(str(path[0])) if len(path) == 1 else None
    return field is not None and not (_is_credential(field) or _has_table(field.annotation))


def _has_table(annotation: Any) -> bool:
    is_table = get_origin(annotation) is dict or _model_of(annotation) is not None
    return is_table or any(map(_has_table, get_args(annotation)))


def _describe(
    items: Sequence[ErrorDetails],
    model: type[BaseModel],
    path: KeyPath,
    parent: KeyPath,
    is_secret: bool,
) -> tuple[str, str]:
    """Describe the errors at one path; a value that allows several types has one for each type."""
    item = items[0]
    name = format_key_path((*parent, *path)) or "the spec"
    value, context = item["input"], item.get("ctx", {})
    is_key = item["loc"][-1:] == ("[key]",)
    is_shown = not (is_secret or is_key or isinstance(value, Mapping))
    cannot_be = f" cannot be {summarize_value(value)}" if is_shown else ""
    instead_of = "" if is_secret else f", not {summarize_value(value)}"
    if is_secret:
        value = None
    match item["type"]:
        case "extra_forbidden":
            return _describe_unknown_key(
                str(path[-1]), _model_at(model, path[:-1]), (*parent, *path[:-1])
            )
        case "missing":
            return f"`{name}` is missing", _suggest_missing_key(model, path, parent)
        case "value_error":
            summary, _, detail = str(context["error"]).partition("\n")
            if path[-1:] == ("class",):
                detail = f"{suggest_class(str(value))} {detail}".strip()
            return f"`{name}`{cannot_be}: {summary}", detail
        case "literal_error":
            return f"`{name}`{cannot_be or ' is not valid'}", f"Use {_quoted(context['expected'])}."
        case kind if kind in BOUNDS:
            bound = f"{BOUNDS[kind]} {next(iter(context.values())):g}"
            advice = _suggest_value("", value, model, path, parent)
            return f"`{name}` must be {bound}{instead_of}", advice
        case kind if kind in KINDS:
            kinds = dict.fromkeys(KINDS[i["type"]] for i in items if i["type"] in KINDS)
            advice = _suggest_value(kind, value, model, path, parent)
            return f"`{name}` must be {' or '.join(kinds)}{instead_of}", advice
        case _:
            message = normalize_message(item["msg"])
            return f"`{name}`{cannot_be}: it {message}", _suggest_value(
                "", value, model, path, parent
            )


def _suggest_missing_key(model: type[BaseModel], path: KeyPath, parent: KeyPath) -> str:
    last, table = str(path[-1]), format_key_path((*parent, *path[:-1]))
    inner = _model_at(model, path)
    if inner is not None:
        keys = [key for key, field in keys_of(inner).items() if field.is_required()]
        lines = [f"{key} = {_example(model, (*path, key))}" for key in keys]
        header = format_key_path((*parent, *path))
        return f"Add the table [{header}] with {', '.join(f'`{item}`' for item in lines)}."
    example = _example(model, path)
    advice = (
        f"Add it, such as `{format_key(last)} = {example}`,"
        if example
        else f"Add `{format_key(last)}`"
    )
    return f"{advice} in [{table}]." if table else f"{advice.rstrip(',')}."


def _quoted(expected: str) -> str:
    return expected.replace("'", '"')


def _suggest_value(
    kind: str, value: Any, model: type[BaseModel], path: KeyPath, parent: KeyPath
) -> str:
    """Suggest what to write in place of a value of the wrong type."""
    last = path[-1] if path else ""
    if len(format_value(value)) > _MAX_SUGGESTION:
        value = None  # then the advice is an example
    if not isinstance(last, str):
        return (
            f"Write `{format_value(str(value))}`."
            if kind == "string_type" and _is_scalar(value)
            else ""
        )
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        if path == ("workers",):
            return "Add a table for each group, such as [workers.cpu]."
        if not (_field_at(model, path) and _example(model, path)):
            return f"Write a table: [{format_key_path((*parent, *path))}]."
    if kind in ("tuple_type", "list_type") and isinstance(value, str):
        return f"Write `{format_key(last)} = {format_value([value])}`."
    if kind == "string_type" and _is_scalar(value):
        return f"Write `{format_key(last)} = {format_value(format_value(value))}`."
    if isinstance(value, str) and _can_parse_as(value, kind):
        return f"Remove the quotes: `{format_key(last)} = {value.strip()}`."
    example = _example(model, path)
    return f"Example: `{format_key(last)} = {example}`." if example else ""


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _can_parse_as(text: str, kind: str) -> bool:
    if kind == "bool_type":
        return text in ("true", "false")
    try:
        {"int_type": int, "float_type": float}[kind](text)
    except (KeyError, ValueError):
        return False
    return text.isascii() and "_" not in text


def _describe_unknown_key(
    name: str, model: type[BaseModel] | None, table: KeyPath
) -> tuple[str, str]:
    where = f"[{format_key_path(table)}]" if table else "the spec"
    known = list(keys_of(model)) if model else []
    tables = [place for place, keys in _tables() if name in keys]
    if close := suggest(name, known):
        detail = close
    elif name == "environment":
        detail = "Use [environment] for every node, or [workers.NAME.environment] for a group."
    elif table[:1] == ("workers",) and name in keys_of(EnvironmentSettings):
        own = f"[{format_key_path((*table[:2], 'environment'))}]"
        detail = f"Move it to [environment], or to {own} for this group only."
    elif tables:
        detail = f"Move it to {' or '.join(tables)}."
    else:
        keys = ", ".join(f"`{key}`" for key in known)
        verb = "only valid key is" if len(known) == 1 else "valid keys are"
        detail = f"Remove it. The {verb} {keys}." if known else "Remove it."
    shown = name if len(name) <= _MAX_SUGGESTION else f"{name[:_MAX_SUGGESTION]}…"
    return f"{where} has no key `{format_key(shown)}`", detail


def _tables() -> Sequence[tuple[str, Mapping[str, FieldInfo]]]:
    places = []
    for name, field in keys_of(Spec).items():
        model = _model_of(field.annotation)
        if model:
            places.append((f"[{name}.NAME]" if name == "workers" else f"[{name}]", keys_of(model)))
    return places


def _example(model: type[BaseModel], path: KeyPath) -> str:
    field = _field_at(model, path)
    return format_value(field.examples[0]) if field and field.examples else ""


def _field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    parent = _model_at(model, path[:-1]) if path else None
    return keys_of(parent).get(str(path[-1])) if parent else None


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the model of the table at `path`; names that a user chose lead to the same model."""
    current: type[BaseModel] | None = model
    steps = list(path)
    while steps and current is not None:
        field = keys_of(current).get(str(steps.pop(0)))
        if field is None:
            return None
        annotation = field.annotation
        if get_origin(annotation) is dict and steps:
            steps.pop(0)
        current = _model_of(annotation)
    return current


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `X`, `X | None`, or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_of(argument) for argument in get_args(annotation))
    return next((model for model in found if model), None)


def _path_in_document(loc: KeyPath, document: Any) -> KeyPath:
    """Return the steps of `loc` that are in the document.

    Between them, pydantic inserts the names of a union's branches.
    """
    path: KeyPath = ()
    for part in loc:
        is_there = (
            part in document
            if isinstance(document, Mapping)
            else isinstance(document, list) and isinstance(part, int) and part < len(document)
        )
        if is_there:
            document = document[part]
            path = (*path, part)
    return path
