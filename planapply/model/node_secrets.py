"""Secrets of a node's environment: variables whose values planapply reads where it runs, when it launches.

A configuration, and so the state, a plan, and the digest, has the reference only (`"env:NAME"`).
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache

ENV_PREFIX = "env:"
NODE_PREFIXES = ("ssm:", "secretsmanager:")
"""Reserved for secrets that a node reads itself."""
_REFERENCE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)


def source_variable(value: str) -> str | None:
    """Return the variable of planapply's own environment that a value refers to; None for a plain value."""
    match = _REFERENCE.fullmatch(value)
    return match[1] if match else None


def secret_sources(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a node that are secrets, each with the variable that it is read from."""
    found = ((name, source_variable(value)) for name, value in variables.items())
    return {name: source for name, source in found if source is not None}


def plain_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a node that are no secrets."""
    return {name: value for name, value in variables.items() if source_variable(value) is None}


def secret_digests(secrets: Mapping[str, str], salt: str) -> dict[str, str]:
    """Return what the state keeps of these secrets, by the node's variable: scrypt(value, salt).

    The variable is part of the salt, so that equal values have different digests.
    """
    return {name: _scrypt(value, f"{salt}:{name}") for name, value in secrets.items()}


@lru_cache(maxsize=256)  # each takes some 50 ms
def _scrypt(value: str, salt: str) -> str:
    return hashlib.scrypt(value.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=16).hex()
