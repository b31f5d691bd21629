"""The `[provider]` table of a spec whose provider is `libcloud`."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from planapply.model.base import Model
from planapply.model.keys import Text, Texts
from planapply.model.keys import key as described
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
_WRITE = 'Write "env:NAME": the environment variable NAME is read when it is needed.'


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


def literal(create: Mapping[str, Any], above: str = "create.") -> tuple[str, str] | None:
    """What is wrong with `create` where a credential stands in it, and what to do; else None."""
    for name, value in create.items():
        if isinstance(value, Mapping):
            found = literal(value, f"{above}{name}.")
            if found:
                return found
        elif _is_secret(name) and isinstance(value, str | int | float | list | tuple):
            is_named = isinstance(value, str) and _VARIABLE.fullmatch(value)
            if not is_named and not isinstance(value, bool):
                return _holds_none(f"{above}{name}")
    return None


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name.lower())) and name not in _NO_SECRET


def _holds_none(where: str) -> tuple[str, str]:
    return f"`{where}` is a credential, and a spec holds none", _WRITE


class Settings(Model):
    """Which of Apache Libcloud's drivers, and whose account. A spec holds no credentials: `"env:NAME"`
    reads one from the environment variable NAME when it is needed."""

    driver: Annotated[
        Text,
        AfterValidator(_driver),
        described("refusal", "openstack", "gce", "digitalocean", "azure"),
    ]
    """Libcloud's name of the driver. It can't change while the cluster exists."""
    key: Annotated[Text | None, described("nothing", "env:OS_USERNAME")] = None
    """The driver's first credential: a key, a token, a user's name."""
    secret: Annotated[Text | None, described("nothing", "env:OS_PASSWORD")] = None
    """The driver's second credential."""
    options: Annotated[
        dict[str, Any],
        described("nothing", {"ex_tenant_name": "my-project", "region": "eu-west-1"}),
    ] = {}
    """More arguments for the driver: region, project, addresses, … Secrets as `"env:NAME"`."""
    create: Annotated[dict[str, Any], described("replacement", {"networks": ["private"]})] = {}
    """More arguments for the driver's `create_node`, for every node; a node's own `create` adds to
    it. Secrets as `"env:NAME"`."""
    allow_from: Annotated[
        Texts,
        AfterValidator(lambda values: tuple(map(_network, values))),
        described("update", ["203.0.113.0/24"]),
    ] = ()
    """With OpenStack, EC2 and GCE: networks that may reach the scheduler and its dashboard. A
    security group, or firewall rules, are made for the cluster and removed with it. Default: none
    are made, and the cloud's own rules are those of the account."""

    # Of the table as a whole: what is wrong with one value is said with it, and it is a secret.
    @model_validator(mode="after")
    def _no_credentials(self) -> "Settings":
        driver = driver_of(self.driver)
        plain = {"key": driver.public_key, "secret": driver.secret_file}
        values = {"key": self.key, "secret": self.secret, **self.options}
        for name, value in values.items():
            wants = name in plain or _is_secret(name)
            is_plain = plain.get(name) and not str(value).lstrip().startswith((ENV, *KEY_TEXT))
            if value is None or not wants or is_plain:
                continue
            if not (isinstance(value, str) and _VARIABLE.fullmatch(value)):
                where = name if name in plain else f"options.{name}"
                raise ValueError("\n".join(_holds_none(where)))
        if wrong := literal(self.create):
            raise ValueError("\n".join(wrong))
        return self
