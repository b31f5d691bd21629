"""Base classes of all data types."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from planapply.model.secrets import redact


class _WithoutSecrets(BaseModel):
    """A value whose repr, which a notebook or a traceback may show, hides what may be secret."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redact(value, name)


class Model(_WithoutSecrets):
    """A strict, immutable value: unknown keys and values of another type are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # A command uses few of the models, so pydantic builds each on first use.
        defer_build=True,
        # TOML has inf and nan. By default pydantic writes null for them, which would change a node's options.
        ser_json_inf_nan="constants",
    )


class Record(_WithoutSecrets):
    """A mutable part of the state, which reads back exactly the JSON that it wrote."""

    model_config = ConfigDict(extra="forbid", defer_build=True, ser_json_inf_nan="constants")
