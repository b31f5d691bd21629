"""What all models share."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A strict, frozen document node: unknown keys and coercions are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Record(BaseModel):
    """A mutable part of the state; it reads what its own JSON wrote, and nothing else."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
