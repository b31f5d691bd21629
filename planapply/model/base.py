"""What all models share."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A strict, frozen document node: unknown keys and coercions are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # A command uses few of the models: each is built on first use.
        defer_build=True,
        # TOML has inf and nan; pydantic would write null for them and so change a node's options.
        ser_json_inf_nan="constants",
    )


class Record(BaseModel):
    """A mutable part of the state; it reads what its own JSON wrote, and nothing else."""

    model_config = ConfigDict(extra="forbid", defer_build=True, ser_json_inf_nan="constants")
