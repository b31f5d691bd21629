"""The values of the nodes' secrets, read from planapply's own environment."""

import os
from collections.abc import Iterable

from planapply.fleet.plugin_calls import SECRET_MISSING_CODE
from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import NodeConfig
from planapply.model.node_secrets import secret_sources
from planapply.model.secrets import protect_variables


def read_secrets(*configs: NodeConfig) -> dict[str, str]:
    """Return the values of these configurations' secrets, by the variable that each is read from.

    Raises PlanapplyError with everything that is missing. From then on, no error of this process quotes one
    of these values.
    """
    sources = _sources(configs)
    protect_variables(sources)
    values = {name: os.environ.get(name, "") for name in sources}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise PlanapplyError(*_missing(missing), code=SECRET_MISSING_CODE)
    undecodable = [name for name, value in values.items() if not _is_text(value)]
    if undecodable:
        raise PlanapplyError(
            f"cannot send {_list(undecodable)} to the nodes: the value is not UTF-8 text",
            "Encode it, for example as base64.",
            code=SECRET_MISSING_CODE,
        )
    return values


def node_secrets(config: NodeConfig) -> dict[str, str]:
    """Return the values of a configuration's secrets, by the node's variable. Raises like `read_secrets`."""
    values = read_secrets(config)
    sources = secret_sources(config.environment.env)
    return {name: values[source] for name, source in sources.items()}


def unset_variables(configs: Iterable[NodeConfig]) -> list[str]:
    """Return the variables that these configurations' secrets are read from, and that have no value here."""
    return [name for name in _sources(configs) if not os.environ.get(name)]


def _sources(configs: Iterable[NodeConfig]) -> list[str]:
    """Return the variables that these configurations' secrets are read from, sorted."""
    return sorted({name for c in configs for name in secret_sources(c.environment.env).values()})


def _missing(names: list[str]) -> tuple[str, str]:
    verb = "is" if len(names) == 1 else "are"
    return (
        f"cannot launch nodes: {_list(names)} {verb} not set",
        f"The nodes get {'it' if len(names) == 1 else 'them'} by `env` under [environment]. Set "
        f"{'it' if len(names) == 1 else 'them'} where planapply runs; an empty value counts as not set.",
    )


def _list(names: list[str]) -> str:
    return f"environment variable{'' if len(names) == 1 else 's'} {', '.join(names)}"


def _is_text(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)
