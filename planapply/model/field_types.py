"""The types of the spec's keys, and the checks of their values.

A check raises ValueError with two lines: what is wrong, and what to write instead.
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from planapply.model import names
from planapply.model.node import TAG_PREFIX

_DURATION_SCHEMA = {"type": ["string", "number"]}

Effect = Literal["nothing", "update", "replacement", "refusal"]

STATE_SCHEMES = ("s3", "gs", "az")
MAX_NAME_LENGTH = 63
_FILE_OPTION = re.compile(
    r"(?:-[rcef]|--(?:requirement|constraint|editable|find-links)[\s=])\s*(?P<target>\S*)"
)
_PERCENTAGE = re.compile(r"(?:100|[1-9][0-9]?)%", re.ASCII)
_LOCAL_PATH = re.compile(r"[./~]|file:|[^#@]*@\s*file:")


FILES_READ = "files read"
"""The context in which a model validates a spec that has the text of each file in place of its name."""


def spec_key(effect: Effect, *examples: object, **more: Any) -> Any:
    """Return the field of a key: the effect of a change on existing nodes, examples, and constraints."""
    return Field(json_schema_extra={"effect": effect}, examples=list(examples), **more)


def _match_pattern(pattern: str, problem: str, hint: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{problem}\n{hint}")
        return value

    return AfterValidator(check)


def _check_cluster_name(name: str) -> str:
    if not names.is_cluster_name(name):
        raise ValueError(f'{names.CLUSTER_NAME_RULE}\nExample: `name = "genomics"`.')
    return name


def _check_group_name(name: str) -> str:
    if name == names.SCHEDULER:
        raise ValueError(
            "`scheduler` is reserved for the scheduler's own node\nUse another name for the group."
        )
    if not names.GROUP_NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            "a group name is 1 to 63 letters, digits, and hyphens, begins with a letter, "
            "and does not end in a hyphen and a number\n"
            "Example: `cpu`, whose nodes are cpu-0, cpu-1, …"
        )
    return name


def check_state_location(location: str) -> str:
    """Return `location`; raise ValueError if a state cannot be stored there."""
    scheme, address, rest = location.partition("://")
    if not location.strip() or not location.isprintable():
        raise ValueError(
            'this is not a location for a state\nWrite a path, or "s3://BUCKET/NAME.json".'
        )
    if address and scheme not in STATE_SCHEMES:
        raise ValueError(
            f"`{scheme}://` is not supported for a state\n"
            "Write a path, or a URL that begins with s3://, gs://, or az://."
        )
    if address and not all(part.strip() for part in rest.partition("/")):
        raise ValueError(f"this URL names no object\nWrite {scheme}://BUCKET/NAME.json.")
    return location


def _check_tag_key(key: str) -> str:
    if key.startswith(TAG_PREFIX) or key == "Name":
        raise ValueError("this tag is reserved for planapply\nUse another key.")
    if not 1 <= len(key) <= 128 or not key.isprintable():
        raise ValueError("a tag's key has 1 to 128 printable characters\nUse another key.")
    return key


def _check_tag_value(value: str) -> str:
    if len(value) > 256 or not value.isprintable():
        raise ValueError("a tag's value has at most 256 printable characters\nShorten the value.")
    return value


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _check_distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or not all(value.strip() for value in values):
        raise ValueError(
            "the list must be non-empty, without empty elements\nAdd an element, or omit the key."
        )
    if len(set(values)) < len(values):
        raise ValueError("the list contains an element twice\nRemove the duplicate.")
    return values


def _check_spot(value: object) -> object:
    if not (isinstance(value, bool) or value == "prefer"):
        raise ValueError(
            'this is neither true, false, nor "prefer"\n'
            'Write `spot = true`, or `spot = "prefer"` for on-demand VMs if no spot VM is available.'
        )
    return value


def _check_adapt(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str | int | float | list):
        raise ValueError(
            "this is neither true, false, nor a table\n"
            'Write `adapt = true`, or `adapt = { target = "2 min", idle = "5 min" }`.'
        )
    return value


def _check_max_unavailable(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_number and not (isinstance(value, str) and _PERCENTAGE.fullmatch(value)):
        raise ValueError(
            "this is neither a number of at least 1 nor a percentage from 1% to 100%\n"
            'Write a number of nodes, such as `max_unavailable = 1`, or `max_unavailable = "25%"`.'
        )
    return value


def is_local_requirement(requirement: str) -> bool:
    """Return whether a line of requirements names a file or folder of this machine."""
    requirement = requirement.strip()  # patterns that begin with blanks take quadratic time
    option = _FILE_OPTION.match(requirement)
    if option:
        return "://" not in option["target"] or option["target"].startswith("file:")
    return bool(_LOCAL_PATH.match(requirement))


def _keep_text_of_file(
    value: object, check_name: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> object:
    return value if isinstance(value, str) and info.context == FILES_READ else check_name(value)


def _check_packages(value: object) -> object:
    if isinstance(value, str) and value != "client":
        raise ValueError(
            'this is neither a list nor "client"\n'
            f"Write `packages = [{json.dumps(value) if len(value) < 200 else '…'}]`, "
            'or `packages = "client"` for the packages of the Python that runs planapply.'
        )
    if not isinstance(value, list | tuple):
        return value
    _check_distinct(tuple(str(package) for package in value))
    for package in (package for package in value if isinstance(package, str)):
        if package.startswith("-") or not package.isprintable():
            raise ValueError(
                f"{json.dumps(package)} is not a package\n"
                'Write a package as pip accepts it, such as "pandas>=2"; put options of pip into a '
                "requirements file."
            )
        if is_local_requirement(package):
            raise ValueError(
                f"{json.dumps(package)} is a file or folder of this machine\n"
                "The nodes do not have your files: publish the package, or give a URL."
            )
    return tuple(value)


def _check_words(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip():
        raise ValueError(
            "the list does not begin with a program\n"
            "Write the program and its arguments, each as one element; or omit the key."
        )
    if any("\0" in word for word in words):
        raise ValueError("an argument cannot have a zero byte\nRemove the zero byte.")
    return words


def _check_commands(lines: tuple[str, ...]) -> tuple[str, ...]:
    if not all(line.strip() and "\0" not in line for line in lines):
        raise ValueError(
            "the list contains an empty command\n"
            'Write each command as in a shell: `setup = ["apt-get install -y graphviz"]`.'
        )
    return lines


Text = Annotated[
    str,
    _match_pattern(
        r"(?=.*\S)[^\0-\x1f\x7f]*",
        "must be non-empty and contain no control characters",
        "Write a value, or omit the key.",
    ),
]
RequirementsFile = Annotated[Text, WrapValidator(_keep_text_of_file)]
ClusterName = Annotated[str, AfterValidator(_check_cluster_name)]
GroupName = Annotated[str, AfterValidator(_check_group_name)]
StateLocation = Annotated[str, AfterValidator(check_state_location)]
Tags = dict[
    Annotated[str, AfterValidator(_check_tag_key)], Annotated[str, AfterValidator(_check_tag_value)]
]
TextList = Annotated[tuple[Text, ...], AfterValidator(_check_distinct)]
TextOrTextList = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_check_distinct),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
Spot = Annotated[
    bool | Literal["prefer"],
    BeforeValidator(_check_spot),
    WithJsonSchema({"enum": [True, False, "prefer"]}),
]
AdaptKey = (
    BeforeValidator(_check_adapt),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "properties": {"target": _DURATION_SCHEMA, "idle": _DURATION_SCHEMA},
                    "additionalProperties": False,
                },
            ]
        }
    ),
)
"""Annotations of a key that is true, false, or a table of settings."""
MaxUnavailable = Annotated[
    int | str,
    BeforeValidator(_check_max_unavailable),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^{_PERCENTAGE.pattern}$"},
            ]
        }
    ),
]
DottedClass = Annotated[
    str,
    _match_pattern(
        r"[^\W\d]\w*(\.[^\W\d]\w*)+",
        "this is not a class in dotted form",
        'Write the module and the name of the class, such as "distributed.Nanny".',
    ),
]
PythonVersion = Annotated[
    str,
    _match_pattern(
        r"3\.[0-9]{1,2}(\.[0-9]{1,3})?",
        "this is not a version of Python",
        'Example: `python = "3.12"`.',
    ),
]
# "[registry/]name[:tag][@digest]", by the grammar of github.com/distribution/reference.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\]"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"\w[\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
ContainerImage = Annotated[
    str,
    _match_pattern(
        rf"(?:(?:{_HOST})(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::{_TAG})?(?:@{_DIGEST})?",
        "this is not a valid name of a container image",
        'Write the name as `docker pull` accepts it, in lowercase, such as "daskdev/dask:latest" or '
        '"registry.example.com:5000/team/dask:1.0".',
    ),
]
Packages = Annotated[
    tuple[str, ...] | Literal["client"],
    BeforeValidator(_check_packages),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "client"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
Variables = dict[
    Annotated[
        str,
        _match_pattern(
            r"[A-Za-z_][A-Za-z0-9_]*",
            "this is not a valid name of an environment variable",
            "Use letters, digits, and underscores, and do not begin with a digit.",
        ),
    ],
    Annotated[
        str,
        _match_pattern(
            r"[^\0]*", "an environment variable cannot contain a zero byte", "Remove the zero byte."
        ),
    ],
]
Commands = Annotated[tuple[str, ...], AfterValidator(_check_commands)]
CommandWords = Annotated[
    tuple[str, ...],
    AfterValidator(_check_words),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
"""A program and its arguments, which no shell interprets."""
