"""The kinds of keys that a spec has: what may stand there, and what to write instead.

A check raises ValueError with two lines: what is wrong, and what to write.
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from planapply.model import names
from planapply.model.node import TAG_PREFIX

Effect = Literal["nothing", "update", "replacement", "refusal"]

STATE_SCHEMES = ("s3", "gs", "az")
MAX_NAME_LENGTH = 63
_FILE_OPTION = re.compile(
    r"\s*(?:-[rcef]|--(?:requirement|constraint|editable|find-links)[\s=])\s*(?P<target>\S*)"
)
_LOCAL_PATH = re.compile(r"\s*(?:[./~]|file:|[^#]*@\s*file:)")


def spec_key(effect: Effect, *examples: object, **more: Any) -> Any:
    """What changing this key does to nodes that exist, examples of it, and pydantic's constraints."""
    return Field(json_schema_extra={"effect": effect}, examples=list(examples), **more)


def _match_pattern(pattern: str, problem: str, hint: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{problem}\n{hint}")
        return value

    return AfterValidator(check)


def _check_cluster_name(name: str) -> str:
    if not names.CLUSTER_NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            "a cluster's name is 1 to 63 letters, digits and hyphens, with no hyphen at its ends\n"
            'Write for example name = "genomics".'
        )
    return name


def _check_group_name(name: str) -> str:
    if name == names.SCHEDULER:
        raise ValueError("`scheduler` names the scheduler's own node\nCall the group otherwise.")
    if not names.GROUP_NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            "a group's name is 1 to 63 letters, digits and hyphens, begins with a letter "
            "and does not end in a hyphen and a number\n"
            "Call it for example cpu; its nodes are then cpu-0, cpu-1, …"
        )
    return name


def check_state_location(location: str) -> str:
    """`location` itself, if a state can be there."""
    scheme, address, rest = location.partition("://")
    if not location.strip() or not location.isprintable():
        raise ValueError('a state can\'t be here\nWrite a path, or "s3://BUCKET/NAME.json".')
    if address and scheme not in STATE_SCHEMES:
        raise ValueError(
            f"a state can't be kept at `{scheme}://`\n"
            "Write a path, or an address that begins with s3://, gs:// or az://."
        )
    if address and not all(part.strip() for part in rest.partition("/")):
        raise ValueError(f"this address names no object\nWrite {scheme}://BUCKET/NAME.json.")
    return location


def _check_tag_key(key: str) -> str:
    if key.startswith(TAG_PREFIX) or key == "Name":
        raise ValueError("planapply sets this tag itself\nUse another key.")
    if not 1 <= len(key) <= 128 or not key.isprintable():
        raise ValueError("a tag's key is 1 to 128 printable characters\nUse another key.")
    return key


def _check_tag_value(value: str) -> str:
    if len(value) > 256 or not value.isprintable():
        raise ValueError("a tag's value is at most 256 printable characters\nShorten it.")
    return value


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _check_distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or not all(value.strip() for value in values):
        raise ValueError("nothing is named here\nName at least one, or leave the key out.")
    if len(set(values)) < len(values):
        raise ValueError("one is named twice\nName each once.")
    return values


def _check_spot(value: object) -> object:
    if not (isinstance(value, bool) or value == "prefer"):
        raise ValueError(
            'this is neither true, false nor "prefer"\n'
            'Write spot = true, or spot = "prefer" for on-demand VMs where no spot VM can be had.'
        )
    return value


def is_local_requirement(requirement: str) -> bool:
    """Whether a line of requirements names a file or a folder, which only this machine has."""
    option = _FILE_OPTION.match(requirement)
    if option:
        return "://" not in option["target"] or option["target"].startswith("file:")
    return bool(_LOCAL_PATH.match(requirement))


def _check_packages(value: object) -> object:
    if isinstance(value, str) and value != "client":
        raise ValueError(
            'this is neither a list nor "client"\n'
            f"Write packages = [{json.dumps(value)}], "
            'or packages = "client" for what the Python has that runs planapply.'
        )
    if not isinstance(value, list | tuple):
        return value
    _check_distinct(tuple(str(package) for package in value))
    for package in (package for package in value if isinstance(package, str)):
        if package.startswith("-") or not package.isprintable():
            raise ValueError(
                f"{json.dumps(package)} is not a package\n"
                'Write what pip takes, such as "pandas>=2"; pip\'s options can stand in a '
                "requirements file."
            )
        if is_local_requirement(package):
            raise ValueError(
                f"{json.dumps(package)} is on this machine\n"
                "The nodes have no files of yours: publish it, or name an address."
            )
    return tuple(value)


def _check_commands(lines: tuple[str, ...]) -> tuple[str, ...]:
    if not all(line.strip() and "\0" not in line for line in lines):
        raise ValueError(
            "an empty command\n"
            'Write each as in a shell: setup = ["apt-get install -y graphviz"], or leave it out.'
        )
    return lines


Text = Annotated[
    str,
    _match_pattern(
        r"(?=.*\S)[^\0-\x1f\x7f]*",
        "nothing is named here, or with a control character",
        "Name it, or leave the key out.",
    ),
]
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
DottedClass = Annotated[
    str,
    _match_pattern(
        r"[^\W\d]\w*(\.[^\W\d]\w*)+",
        "this is not a class in dotted form",
        'Write its module and its name, such as "distributed.Nanny".',
    ),
]
PythonVersion = Annotated[
    str,
    _match_pattern(
        r"3\.[0-9]{1,2}(\.[0-9]{1,3})?",
        "this is not a version of Python",
        'Write for example python = "3.12".',
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
        "this can't be the name of a container image",
        'Write it as `docker pull` takes it, such as "daskdev/dask:latest" or '
        '"registry.example.com:5000/team/dask:1.0": names in small letters.',
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
            "this can't be an environment variable",
            "Use letters, digits and underscores, beginning with no digit.",
        ),
    ],
    Annotated[str, _match_pattern(r"[^\0]*", "a zero byte can't be passed on", "Leave it out.")],
]
Commands = Annotated[tuple[str, ...], AfterValidator(_check_commands)]
