"""The `[provider]` table of a spec whose provider is `libcloud`."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from planapply.model.base import Model
from planapply.model.field_types import Text, Texts
from planapply.model.field_types import key as described
from planapply_libcloud.drivers import driver_of, unknown

ENV = "env:"
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET = re.compile(
    r"password|passwd|passphrase|pass(?![a-z])|secret|token|api_?key|access_?key|consumer_?key"
    r"|private_?key|credential"
)
_NO_SECRET = frozenset({"credential_file", "ex_token_scope"})
KEY_TEXT = ("-----", "{")
"""How a key begins that is no path: PEM, or a service account's JSON."""
_HOLDS_NONE = (
    "this is a credential, and a spec holds none\n"
    'Write "env:NAME": the environment variable NAME is read when it is needed.'
)


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value.strip()))
    except ValueError:
        raise ValueError(
            f'`{value}` is no network\nWrite an address, or a network such as "203.0.113.0/24".'
        ) from None


def _driver(value: str) -> str:
    wrong = unknown(value)
    if wrong:
        raise ValueError("\n".join(wrong))
    return value


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name.lower())) and name not in _NO_SECRET


def _is_named(value: object) -> bool:
    return isinstance(value, str) and _VARIABLE.fullmatch(value) is not None


def _literal(value: Any, name: str = "") -> Iterator[tuple[str | int, ...]]:
    """Where in a value, whose key is `name`, credentials themselves stand."""
    if _is_secret(name) and not isinstance(value, Mapping | bool):
        if not _is_named(value):
            yield ()
        return
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        for path in _literal(item, key if isinstance(key, str) else ""):
            yield (key, *path)


def _no_credentials(table: dict[str, Any], *, also: tuple[str, ...] = ()) -> dict[str, Any]:
    found = [*_literal(table), *((n,) for n in also if n in table and not _is_named(table[n]))]
    if found:
        raise ValidationError.from_exception_data(
            "credentials",
            [
                {
                    "type": PydanticCustomError("value_error", "{error}", {"error": _HOLDS_NONE}),
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
        AfterValidator(_driver),
        described("refusal", "openstack", "gce", "digitalocean", "azure"),
    ]
    """Libcloud's name of the driver. It cannot change while the cluster exists."""
    key: Annotated[Text | None, described("nothing", "env:OS_USERNAME")] = None
    """The driver's first credential: a key, a token, or a user name."""
    secret: Annotated[Text | None, described("nothing", "env:OS_PASSWORD")] = None
    """The driver's second credential."""
    options: Annotated[
        dict[str, Any],
        AfterValidator(lambda table: _no_credentials(table, also=("key",))),
        described("nothing", {"ex_tenant_name": "my-project", "region": "eu-west-1"}),
    ] = {}
    """More arguments of the driver, such as region, project, and URLs. Write secrets as `"env:NAME"`."""
    create: Annotated[
        dict[str, Any],
        AfterValidator(_no_credentials),
        described("replacement", {"networks": ["private"]}),
    ] = {}
    """More arguments of the driver's `create_node`, for every node; a node's own `create` adds to them.
    Write secrets as `"env:NAME"`."""
    allow_from: Annotated[
        Texts,
        AfterValidator(lambda values: tuple(map(_network, values))),
        described("update", ["203.0.113.0/24"]),
    ] = ()
    """Networks that may reach the scheduler and its dashboard, on OpenStack, EC2, and GCE. planapply
    creates a security group or firewall rules for the cluster, and removes them with the cluster.
    Default: none are created, and the rules of the account apply."""

    @field_validator("key", "secret")
    @classmethod
    def _is_no_credential(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or _is_named(value) or "driver" not in info.data:
            return value
        driver = driver_of(info.data["driver"])
        may_stand = driver.public_key if info.field_name == "key" else driver.secret_file
        if not may_stand or value.lstrip().startswith((ENV, *KEY_TEXT)):
            raise ValueError(_HOLDS_NONE)
        return value
