"""The words for pydantic's errors, the same for specs, states, and plan files."""

from pydantic_core import ErrorDetails

KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
"""Descriptions of valid values, by the type of the error."""
BOUNDS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def describe_problem(item: ErrorDetails) -> str:
    """Return what is wrong at one place, without the value, which may be a secret."""
    match item["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not a known key"
        case kind if kind in KINDS:
            return f"must be {KINDS[kind]}"
        case kind if kind in BOUNDS:
            return f"must be {BOUNDS[kind]} {next(iter(item.get('ctx', {}).values())):g}"
        case _:
            return normalize_message(item["msg"])


def normalize_message(message: str) -> str:
    """Return pydantic's own message as it follows the name of a key."""
    return message.removeprefix("Input ").replace("should ", "must ", 1)
