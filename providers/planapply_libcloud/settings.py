"""The `[provider]` table of a spec whose provider is `libcloud`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from planapply.providerkit import Model, Text, TextList, parse_network, spec_key
from planapply_libcloud.drivers import explain_unknown, find_driver

ENV = "env:"
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET = re.compile(
    r"password|passwd|passphrase|pass(?![a-z])|secret|token|api_?key|access_?key|consumer_?key"
    r"|private_?key|credential"
)
_NOT_SECRET = frozenset({"credential_file", "ex_token_scope"})
KEY_PREFIXES = ("-----", "{")
"""Beginnings of a key that is not a path: PEM, or a service account's JSON."""
_CREDENTIAL_ERROR = (
    "a spec must not contain credentials\n"
    'Write "env:NAME" instead: planapply then reads the environment variable NAME.'
)


def _check_driver(value: str) -> str:
    problem = explain_unknown(value)
    if problem:
        raise ValueError("\n".join(problem))
    return value


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name.lower())) and name not in _NOT_SECRET


def _is_variable(value: object) -> bool:
    return isinstance(value, str) and _VARIABLE.fullmatch(value) is not None


def _find_credentials(value: Any, name: str = "") -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of credentials in a value whose key is `name`."""
    if _is_secret(name) and not isinstance(value, Mapping | bool):
        if not _is_variable(value):
            yield ()
        return
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        for path in _find_credentials(item, key if isinstance(key, str) else ""):
            yield (key, *path)


def _check_no_credentials(
    table: dict[str, Any], *, extra_keys: tuple[str, ...] = ()
) -> dict[str, Any]:
    found = [
        *_find_credentials(table),
        *((n,) for n in extra_keys if n in table and not _is_variable(table[n])),
    ]
    if found:
        raise ValidationError.from_exception_data(
            "credentials",
            [
                {
                    "type": PydanticCustomError(
                        "value_error", "{error}", {"error": _CREDENTIAL_ERROR}
                    ),
                    "loc": path,
                    "input": None,
                }
                for path in found
            ],
        )
    return table


class Settings(Model):
    """Apache Libcloud's driver and its account. A spec never holds credentials: write `"env:NAME"`, and
    planapply reads the environment variable NAME when it is needed."""

    driver: Annotated[
        Text,
        AfterValidator(_check_driver),
        spec_key("refusal", "openstack", "gce", "digitalocean", "azure"),
    ]
    """Libcloud's name of the driver. It cannot change while the cluster exists."""
    key: Annotated[Text | None, spec_key("nothing", "env:OS_USERNAME")] = None
    """The driver's first credential: a key, a token, or a user name."""
    secret: Annotated[Text | None, spec_key("nothing", "env:OS_PASSWORD")] = None
    """The driver's second credential."""
    options: Annotated[
        dict[str, Any],
        AfterValidator(lambda table: _check_no_credentials(table, extra_keys=("key",))),
        spec_key("nothing", {"ex_tenant_name": "my-project", "region": "eu-west-1"}),
    ] = {}
    """More arguments of the driver, such as region, project, and URLs. Write secrets as `"env:NAME"`."""
    create: Annotated[
        dict[str, Any],
        AfterValidator(_check_no_credentials),
        spec_key("replacement", {"networks": ["private"]}),
    ] = {}
    """More arguments of the driver's `create_node`, for every node; a node's own `create` adds to them.
    Write secrets as `"env:NAME"`."""
    allow_from: Annotated[
        TextList,
        AfterValidator(lambda values: tuple(map(parse_network, values))),
        spec_key("update", ["203.0.113.0/24"]),
    ] = ()
    """Networks that may reach the scheduler and its dashboard, on OpenStack, EC2, and GCE. planapply
    creates a security group or firewall rules for the cluster, and removes them with the cluster.
    Default: none are created, and the rules of the account apply."""

    price: Annotated[
        dict[Text, Annotated[float, Field(gt=0, lt=1e6)]], spec_key("nothing", {"x9.huge": 1.25})
    ] = {}
    """Prices of sizes in USD/h, for `max_cost` and for the cost in plans. Use it for a size whose price
    planapply does not know, or to replace the public on-demand price. It is also the price of spot VMs
    if the cloud reports none. Default: the public prices, as far as they are known."""

    @field_validator("key", "secret")
    @classmethod
    def _check_credential(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or _is_variable(value) or "driver" not in info.data:
            return value
        driver = find_driver(info.data["driver"])
        is_allowed = driver.is_key_public if info.field_name == "key" else driver.has_secret_file
        if not is_allowed or value.lstrip().startswith((ENV, *KEY_PREFIXES)):
            raise ValueError(_CREDENTIAL_ERROR)
        return value
