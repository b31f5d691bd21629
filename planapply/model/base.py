"""Base classes of all data types."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
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


class Record(BaseModel):
    """A mutable part of the state, which reads back exactly the JSON that it wrote."""

    model_config = ConfigDict(extra="forbid", defer_build=True, ser_json_inf_nan="constants")
