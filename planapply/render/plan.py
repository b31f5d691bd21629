"""A plan as people read it: one line a run of equal nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planapply.model.names import SCHEDULER, split_name, to_ranges
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, Cost, ElasticGroup, FieldChange, Plan
from planapply.render.text import BLANK_LINE, Line, Span, align_columns, elide, line, wrap
from planapply.render.values import (
    format_items,
    format_location,
    format_price_notes,
    format_size,
    format_usd,
    format_value,
)

STYLES = {
    Action.CREATE: "green",
    Action.UPDATE: "yellow",
    Action.REPLACE: "yellow",
    Action.DESTROY: "red",
}
_IMPLIED_REASONS = frozenset({"not there yet", "destroy was asked for"})
"""Reasons that the symbol tells already."""
_INDENT = " " * 8
_MAX_ITEMS = 5
"""Lines of what one setting loses, and of what it wins."""


@dataclass
class ChangeRun:
    """Changes that read alike, of nodes whose numbers follow each other."""

    changes: list[Change]
    step: int = 0
    """1 where the numbers rise, -1 where they fall; 0 while there is one change."""

    def try_append(self, change: Change) -> bool:
        """Add the change if it continues the run."""
        last = self.changes[-1]
        (group, previous_index), (other_group, index) = (
            split_name(last.name),
            split_name(change.name),
        )
        step = index - previous_index
        if (
            group != other_group
            or abs(step) != 1
            or self.step not in (0, step)
            or not _is_similar(last, change)
        ):
            return False
        self.step = step
        self.changes.append(change)
        return True

    @property
    def name(self) -> str:
        """Such as `cpu-[0..19]`."""
        names = [change.name for change in self.changes]
        return to_ranges(names if self.step >= 0 else reversed(names))[0]

    @property
    def count(self) -> str:
        """Such as `(20)`; empty for one node."""
        return f"({len(self.changes)})" if len(self.changes) > 1 else ""

    @property
    def reason(self) -> str:
        """Why, where neither the symbol nor the fields tell; of several nodes without the VM."""
        first = self.changes[0]
        if first.fields or first.reason in _IMPLIED_REASONS:
            return ""
        if len(self.changes) == 1:
            return first.reason
        return _shared_reason(first).replace("its VM is", "their VMs are")


def plan_lines(plan: Plan, width: int = 80, *, drift: bool = True) -> list[Line]:
    """The whole plan, without its diagnostics; `width` in columns.

    `drift` says of a `--refresh-only` plan whether there is anything to record.
    """
    if plan.refresh_only and drift:
        message = "What has changed in the cloud is recorded; no VM is launched or ended."
        return [
            *_wrapped_lines(
                f"planapply will update the state of {_format_cluster(plan)}. {message}", width
            )
        ]
    if not plan.changes:
        return [
            line(("No changes.", "bold green"), f" {_no_changes_text(plan)}"),
            *_footer_lines(plan, width),
        ]
    change_runs = group_changes(plan.changes)
    rows = align_columns(
        [
            [run.name, run.count, "  ".join(_describe_change(run.changes[0], plan))]
            for run in change_runs
        ]
    )
    # A field's values stand below what describes its node, where its name leaves the room.
    column = 6 + max((sum(map(len, row[:-1])) for row in rows), default=0)
    verb = "destroy" if _is_full_destroy(plan) else "change"
    lines = [line(f"planapply will {verb} {_format_cluster(plan)}:"), BLANK_LINE]
    for run, row in zip(change_runs, rows, strict=True):
        action = run.changes[0].action
        lines.append(
            line("  ", (f"{action.symbol:<3}", STYLES[action]), f" {''.join(row).rstrip()}")
        )
        lines += _field_lines(run.changes[0].fields, column - len(_INDENT) - 3, width)
        if run.reason:
            lines += [line(text) for text in wrap(f"({run.reason})", width, _INDENT)]
    counts = plan.summary
    summary = (
        f" {counts['add']} to add, {counts['change']} to change, {counts['destroy']} to destroy."
    )
    return [*lines, BLANK_LINE, line(("Plan:", "bold"), summary), *_footer_lines(plan, width)]


def group_changes(changes: Sequence[Change]) -> list[ChangeRun]:
    """The changes in their order, with those that read alike together."""
    found: list[ChangeRun] = []
    for change in changes:
        if not (found and found[-1].try_append(change)):
            found.append(ChangeRun([change]))
    return found


def _is_similar(first: Change, second: Change) -> bool:
    keys = ("action", "kind", "before", "after", "fields")
    return _shared_reason(first) == _shared_reason(second) and all(
        getattr(first, key) == getattr(second, key) for key in keys
    )


def _shared_reason(change: Change) -> str:
    return change.reason.replace(f" {change.vm}", "") if change.vm else change.reason


def _format_cluster(plan: Plan) -> str:
    location = format_location(plan.provider, {**plan.settings, **plan.cloud})
    return f'cluster "{plan.cluster}" ({location})'


def _is_full_destroy(plan: Plan) -> bool:
    return plan.spec_digest is None and any(change.name == SCHEDULER for change in plan.changes)


def _no_changes_text(plan: Plan) -> str:
    if plan.refresh_only:
        return "The state agrees with what exists."
    if plan.spec_digest is None:
        return "There is nothing to destroy."
    return f'Cluster "{plan.cluster}" is as its spec says.'


def _describe_change(change: Change, plan: Plan) -> Iterator[str]:
    """What the node is, or was: the little that tells groups apart."""
    if change.kind == "resource":
        yield "supporting resource"
        return
    config = plan.configs.get(change.after or change.before or "")
    if config is not None:
        yield from describe_config(config)


def describe_config(config: NodeConfig) -> Iterator[str]:
    """Size or requirements, spot, processes."""
    if config.size:
        yield config.size[0]
    elif config.requirements is not None:
        requirements = config.requirements
        parts = (
            f"{requirements.cpus} cpu{'s' * (requirements.cpus > 1)}" if requirements.cpus else "",
            format_size(requirements.memory) if requirements.memory else "",
            f"{requirements.gpus} gpu{'s' * (requirements.gpus > 1)}" if requirements.gpus else "",
            requirements.arch or "",
        )
        yield ", ".join(part for part in parts if part)
    if config.spot:
        yield "spot"
    if config.processes > 1:
        yield f"{config.processes} processes"


def _field_lines(fields: Sequence[FieldChange], min_width: int, width: int) -> Iterator[Line]:
    """Old and new value on the setting's line where they fit; `min_width` columns are for the path."""
    available = min(max(width, 60), 120) - len(_INDENT) - len("    ->    (forces replacement)")
    widths_left = {field.path: available - sum(map(len, _format_values(field))) for field in fields}
    column = max(
        [
            min_width,
            *(len(path) for path, available in widths_left.items() if len(path) < available),
        ]
    )
    for field in fields:
        forces: tuple[str | Span, ...] = ()
        if field.forces_replacement:
            forces = ("   (", ("forces replacement", "red"), ")")
        if len(field.path) < widths_left[field.path]:
            before, after = _format_values(field)
            path = field.path.ljust(min(column, widths_left[field.path]))
            yield line(f"{_INDENT}{path}   ", before, (" -> ", "yellow"), after, *forces)
        else:
            yield line(f"{_INDENT}{field.path}", *forces)
            yield from _value_diff_lines(field, width)


def _format_values(field: FieldChange) -> tuple[str, str]:
    return format_value(field.before, field.path), format_value(field.after, field.path)


def _value_diff_lines(field: FieldChange, width: int) -> Iterator[Line]:
    """What a long value has lost and won."""
    before, after = format_items(field.before), format_items(field.after)
    removed = [text for text in before if text not in set(after)]
    added = [text for text in after if text not in set(before)]
    indent = f"{_INDENT}  "
    if not removed and not added:
        yield line(f"{indent}(the same in another order)")
    for symbol, style, texts in (("- ", "red", removed), ("+ ", "green", added)):
        for text in texts[:_MAX_ITEMS]:
            yield line(indent, (symbol, style), elide(text, max(width, 40) - len(indent) - 2))
        if len(texts) > _MAX_ITEMS:
            yield line(indent, (symbol, style), f"… and {len(texts) - _MAX_ITEMS} more")


def _footer_lines(plan: Plan, width: int) -> Iterator[Line]:
    if plan.cost is not None and (plan.cost.before, plan.cost.after) != (0.0, 0.0):
        yield line(("Cost:", "bold"), f" {format_cost(plan.cost)}")
    for name, group in plan.elastic.items():
        yield from _wrapped_lines(_elastic_text(name, group), width)


def _elastic_text(name: str, group: ElasticGroup) -> str:
    number = "no nodes" if not group.nodes else f"{group.nodes} node{'s' * (group.nodes > 1)}"
    return (
        f"Elastic: {name} has {number} (min {group.min}, max {group.max}); "
        "its size moves only under `scale` and `adapt`."
    )


def format_cost(cost: Cost) -> str:
    """USD an hour, before and after, and what is not known of it."""
    before = format_usd(cost.before, cost.unknown_before)
    after = format_usd(cost.after, cost.unknown)
    notes = format_price_notes(cost.source, {*cost.unknown_before, *cost.unknown})
    return (after if before == after else f"{before} -> {after}") + notes


def _wrapped_lines(text: str, width: int) -> Iterator[Line]:
    return (line(part) for part in wrap(text, width))
