"""What pydantic found wrong -> what is wrong with the spec, and what to write instead."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from planapply.model.spec import Spec
from planapply.specfile.classes import suggestion
from planapply.specfile.toml_format import Path, Problem, brief, dotted, key, near, toml

_KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def explain(
    error: ValidationError, model: type[BaseModel], document: Any, above: Path = ()
) -> Iterator[Problem]:
    """One problem for each place of `document` where `error` found any, in its order.

    `document` is what `model` was to be made from; `above` is where it stands in the file. No value
    is repeated where one may be a credential.
    """
    hidden = _has_credentials(model)
    found: dict[Path, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        path = _existing(item["loc"], document)
        if item["type"] in ("missing", "extra_forbidden"):
            path = item["loc"]
        found.setdefault(path, []).append(item)
    for path, items in found.items():
        summary, detail = _say(items, model, path, above, hidden)
        where = path[:-1] if items[0]["type"] == "missing" else path
        yield Problem((*above, *where), summary, detail, hidden=hidden)


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a table as they are called in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _has_credentials(model: type[BaseModel]) -> bool:
    """Whether one of its keys is written "env:NAME", which is what stands for a credential."""
    examples = [example for field in keys_of(model).values() for example in field.examples or []]
    return any(isinstance(example, str) and example.startswith("env:") for example in examples)


def _say(
    items: Sequence[ErrorDetails], model: type[BaseModel], path: Path, above: Path, hidden: bool
) -> tuple[str, str]:
    """What is wrong at one path; a value that may be of several kinds has an error for each."""
    item = items[0]
    name = dotted((*above, *path)) or "the spec"
    value, context = item["input"], item.get("ctx", {})
    is_key = item["loc"][-1:] == ("[key]",)
    is_shown = not (hidden or is_key or isinstance(value, Mapping))
    no = f" can't be {brief(value)}" if is_shown else ""
    not_it = "" if hidden else f", not {brief(value)}"
    if hidden:
        value = None
    match item["type"]:
        case "extra_forbidden":
            return _unknown(str(path[-1]), _model_at(model, path[:-1]), (*above, *path[:-1]))
        case "missing":
            return f"`{name}` is missing", _missing(model, path, above)
        case "value_error":
            summary, _, detail = str(context["error"]).partition("\n")
            if path[-1:] == ("class",):
                detail = f"{suggestion(str(value))} {detail}".strip()
            return f"`{name}`{no}: {summary}", detail
        case "literal_error":
            return f"`{name}`{no or ' is wrong'}", f"Write {_quoted(context['expected'])}."
        case kind if kind in _BOUNDS:
            bound = f"{_BOUNDS[kind]} {next(iter(context.values())):g}"
            write = _instead("", value, model, path, above)
            return f"`{name}` must be {bound}{not_it}", write
        case kind if kind in _KINDS:
            kinds = dict.fromkeys(_KINDS[i["type"]] for i in items if i["type"] in _KINDS)
            write = _instead(kind, value, model, path, above)
            return f"`{name}` must be {' or '.join(kinds)}{not_it}", write
        case _:
            message = item["msg"].removeprefix("Input ")
            return f"`{name}`{no}: it {message}", _instead("", value, model, path, above)


def _missing(model: type[BaseModel], path: Path, above: Path) -> str:
    last, table = str(path[-1]), dotted((*above, *path[:-1]))
    inner = _model_at(model, path)
    if inner is not None:
        keys = [key for key, field in keys_of(inner).items() if field.is_required()]
        lines = [f"{key} = {_example(model, (*path, key))}" for key in keys]
        return f"Write [{dotted((*above, *path))}], and below it {', '.join(lines)}."
    example = _example(model, path)
    write = f"Write for example {key(last)} = {example}" if example else f"Add {key(last)}"
    return f"{write} in [{table}]." if table else f"{write}."


def _quoted(expected: str) -> str:
    return expected.replace("'", '"')


def _instead(kind: str, value: Any, model: type[BaseModel], path: Path, above: Path) -> str:
    """What to write in place of a value of the wrong kind."""
    last = path[-1] if path else ""
    if not isinstance(last, str):
        return f"Write {toml(str(value))}." if kind == "string_type" and _scalar(value) else ""
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        if path == ("workers",):
            return "Write a table for each group, such as [workers.cpu]."
        if not (_field_at(model, path) and _example(model, path)):
            return f"Write a table: [{dotted((*above, *path))}]."
    if kind in ("tuple_type", "list_type") and isinstance(value, str):
        return f"Write {key(last)} = {toml([value])}."
    if kind == "string_type" and _scalar(value):
        return f"Write {key(last)} = {toml(toml(value))}."
    if isinstance(value, str) and _reads_as(value, kind):
        return f"Write {key(last)} = {value.strip()}, without quotes."
    example = _example(model, path)
    return f"Write for example {key(last)} = {example}." if example else ""


def _scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _reads_as(text: str, kind: str) -> bool:
    if kind == "bool_type":
        return text in ("true", "false")
    try:
        {"int_type": int, "float_type": float}[kind](text)
    except (KeyError, ValueError):
        return False
    return text.isascii() and "_" not in text


def _unknown(name: str, model: type[BaseModel] | None, table: Path) -> tuple[str, str]:
    where = f"[{dotted(table)}]" if table else "the spec"
    known = list(keys_of(model)) if model else []
    others = [place for place, keys in _tables() if name in keys]
    if close := near(name, known):
        detail = close
    elif others:
        detail = f"It belongs in {' or '.join(others)}."
    else:
        detail = f"It may have {', '.join(known)}." if known else "It has no keys."
    return f"{where} has no key `{key(name)}`", detail


def _tables() -> Sequence[tuple[str, Mapping[str, FieldInfo]]]:
    places = []
    for name, field in keys_of(Spec).items():
        model = _model_of(field.annotation)
        if model:
            places.append((f"[{name}.NAME]" if name == "workers" else f"[{name}]", keys_of(model)))
    return places


def _example(model: type[BaseModel], path: Path) -> str:
    field = _field_at(model, path)
    return toml(field.examples[0]) if field and field.examples else ""


def _field_at(model: type[BaseModel], path: Path) -> FieldInfo | None:
    above = _model_at(model, path[:-1]) if path else None
    return keys_of(above).get(str(path[-1])) if above else None


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of the table at `path`; steps that are names a user gave lead to the same model."""
    at: type[BaseModel] | None = model
    steps = list(path)
    while steps and at is not None:
        field = keys_of(at).get(str(steps.pop(0)))
        if field is None:
            return None
        annotation = field.annotation
        if get_origin(annotation) is dict and steps:
            steps.pop(0)
        at = _model_of(annotation)
    return at


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_of(argument) for argument in get_args(annotation))
    return next((model for model in found if model), None)


def _existing(loc: Path, document: Any) -> Path:
    """The steps of `loc` that are in the document: pydantic puts the names of a union's branches
    between them."""
    path: Path = ()
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
