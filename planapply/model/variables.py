"""Environment variables that refer to themselves, such as `PATH = "/opt/x/bin:$PATH"`."""

import re
from collections.abc import Mapping

PROXIES = ("http_proxy", "https_proxy", "no_proxy")
"""The proxy variables in lowercase; some programs read only these, some also the uppercase names."""


def split_self_references(name: str, value: str) -> list[str]:
    """Return the parts of `value` between its references (`$NAME`, `${NAME}`) to variable `name`."""
    return re.split(rf"\$(?:{name}(?![A-Za-z0-9_])|{{{name}}})", value)


def expand_self_references(
    variables: Mapping[str, str], current: Mapping[str, str]
) -> dict[str, str]:
    """Return `variables` with each reference of a variable to itself replaced by its current value.

    A variable that `current` does not have is empty. Every other `$` stays as it is.
    """
    return {
        name: current.get(name, "").join(split_self_references(name, value))
        for name, value in variables.items()
    }


def lowercase_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables by their lowercase names; apt and curl read only these."""
    found = {}
    for name in PROXIES:
        value = variables.get(name) or variables.get(name.upper())
        if value:
            found[name] = value
    return found
