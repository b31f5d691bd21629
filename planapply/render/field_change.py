"""A changed field as people read it, without secrets."""

from collections.abc import Iterator

from planapply.model.plan import FieldChange
from planapply.model.secrets import redact
from planapply.render.values import format_items, format_value

_MAX_ITEMS = 5
"""Maximum number of lines for what one field loses, and for what it gains."""


def redact_field(field: FieldChange) -> FieldChange:
    """Return a changed field whose values may be shown."""
    path = field.path.split(".")
    before, after = redact(field.before, *path), redact(field.after, *path)
    return field.model_copy(update={"before": before, "after": after})


def format_values(field: FieldChange) -> tuple[str, str]:
    """Return the old and the new value of a field, as they are; see `redact_field`."""
    return format_value(field.before, field.path), format_value(field.after, field.path)


def value_diff(field: FieldChange) -> Iterator[tuple[str, str]]:
    """Yield the items that a long value loses (`-`) and gains (`+`), or that the order differs."""
    before, after = format_items(field.before), format_items(field.after)
    removed = [text for text in before if text not in set(after)]
    added = [text for text in after if text not in set(before)]
    if not removed and not added:
        yield "", "(same items in another order)"
    for symbol, texts in (("-", removed), ("+", added)):
        yield from ((symbol, text) for text in texts[:_MAX_ITEMS])
        if len(texts) > _MAX_ITEMS:
            yield symbol, f"… and {len(texts) - _MAX_ITEMS} more"
