"""A plan as people read it: one line for each run of identical nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planapply.model.names import SCHEDULER, split_name, step_between, to_hostlist
from planapply.model.node import NodeConfig
from planapply.model.plan import (
    Action,
    Change,
    ChangeReason,
    Cost,
    DriftItem,
    ElasticGroup,
    FieldChange,
    Mode,
    Plan,
)
from planapply.model.secrets import redact
from planapply.render.access import format_access
from planapply.render.reasons import drift_text, reason_text
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
_IMPLIED_REASONS = frozenset({ChangeReason.NEW, ChangeReason.DESTROY_REQUESTED})
"""Reasons that the symbol implies."""
_INDENT = " " * 8
_MAX_ITEMS = 5
"""Maximum number of lines for what one setting loses, and for what it gains."""


@dataclass
class ChangeRun:
    """Changes that read alike, for nodes with consecutive numbers."""

    changes: list[Change]
    step: int = 0
    """1 if the numbers increase, -1 if they decrease; 0 for one change."""

    def try_append(self, change: Change) -> bool:
        """Add the change and return True, if it continues the run."""
        last = self.changes[-1]
        step = step_between(last.name, change.name)
        if step == 0 or self.step not in (0, step) or not _is_similar(last, change):
            return False
        self.step = step
        self.changes.append(change)
        return True

    @property
    def name(self) -> str:
        """Return the names, such as `cpu-[0-19]`."""
        names = [change.name for change in self.changes]
        return to_hostlist(names if self.step >= 0 else reversed(names))[0]

    @property
    def count(self) -> str:
        """Return the number of nodes, such as `(20)`; empty for one node."""
        return f"({len(self.changes)})" if len(self.changes) > 1 else ""

    @property
    def reason(self) -> str:
        """Return the reason; empty if the symbol or the fields imply it."""
        first = self.changes[0]
        is_implied = first.fields or first.reason in _IMPLIED_REASONS
        return "" if is_implied else reason_text(self.changes)


def plan_lines(plan: Plan, width: int = 80) -> list[Line]:
    """Return the whole plan without its diagnostics; `width` in columns."""
    if plan.mode is Mode.REFRESH_ONLY and plan.drift:
        return _drift_lines(plan, width)
    if not plan.changes:
        if plan.unrecorded:
            return [*_unrecorded_lines(plan), BLANK_LINE, *footer_lines(plan, width)]
        title = "No nodes change." if plan.recorded else "No changes."
        return [
            line((title, "bold green"), f" {_no_changes_text(plan)}"),
            *footer_lines(plan, width),
        ]
    change_runs = group_changes(plan.changes)
    rows = align_columns(
        [
            [run.name, run.count, "  ".join(describe_change(run.changes[0], plan))]
            for run in change_runs
        ]
    )
    # The values of a field are below the description of its node, if its name leaves enough room.
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
    if plan.unrecorded:
        lines += [BLANK_LINE, *_unrecorded_lines(plan)]
    return [*lines, BLANK_LINE, line(("Plan:", "bold"), summary), *footer_lines(plan, width)]


def _unrecorded_lines(plan: Plan) -> list[Line]:
    """Return the drift that an apply records, and that is no change of a node."""
    return [
        line(f"planapply will update the state of {_format_cluster(plan)}:"),
        BLANK_LINE,
        *_drift_table(plan.unrecorded),
    ]


def _drift_lines(plan: Plan, width: int) -> list[Line]:
    """Return what a refresh-only plan records, and what else differs from the state."""
    recorded = [item for item in plan.drift if item.is_recordable]
    other = [item for item in plan.drift if not item.is_recordable]
    lines: list[Line] = []
    if recorded:
        lines = [
            line(f"planapply will update the state of {_format_cluster(plan)}:"),
            BLANK_LINE,
            *_drift_table(recorded),
            BLANK_LINE,
            *_wrapped_lines("No VM will be launched or terminated.", width),
        ]
    if other:
        text = "A refresh does not change the following; run `planapply plan` to see what an apply would do:"
        title = text if recorded else f"No changes to the state of {_format_cluster(plan)}. {text}"
        lines += [*([BLANK_LINE] if recorded else []), *_wrapped_lines(title, width)]
        lines += [BLANK_LINE, *_drift_table(other)]
    if plan.recorded:
        lines += [BLANK_LINE, *_recorded_lines(plan, width)]
    return lines


def _drift_table(items: Sequence[DriftItem]) -> Iterator[Line]:
    runs: list[list[DriftItem]] = []
    for item in items:
        last = runs[-1][-1] if runs else item
        is_alike = (last.kind, last.fields) == (item.kind, item.fields)
        if is_alike and step_between(last.name, item.name) == 1:
            runs[-1].append(item)
        else:
            runs.append([item])
    rows = [
        [
            to_hostlist(item.name for item in run)[0],
            f"({len(run)})" if len(run) > 1 else "",
            drift_text(run),
        ]
        for run in runs
    ]
    for row in align_columns(rows):
        yield line("  ", "".join(row))


def group_changes(changes: Sequence[Change]) -> list[ChangeRun]:
    """Return the changes in their order, in runs of those that read alike."""
    found: list[ChangeRun] = []
    for change in changes:
        if not (found and found[-1].try_append(change)):
            found.append(ChangeRun([change]))
    return found


def _is_similar(first: Change, second: Change) -> bool:
    keys = ("action", "kind", "before", "after", "reason", "facts", "fields")
    return all(getattr(first, key) == getattr(second, key) for key in keys) and (
        _shown_vm(first) == _shown_vm(second)
    )


def _shown_vm(change: Change) -> tuple[str | None, bool] | None:
    """Return size and market of the VM that a change is about; None if it launches another one."""
    if change.current is None or change.action not in (Action.UPDATE, Action.DESTROY):
        return None
    return change.current.size, change.current.spot


def _format_cluster(plan: Plan) -> str:
    location = format_location(plan.provider, {**plan.settings, **plan.cloud})
    return f'cluster "{plan.cluster}" ({location})'


def _is_full_destroy(plan: Plan) -> bool:
    return plan.mode is Mode.DESTROY and any(change.name == SCHEDULER for change in plan.changes)


def _no_changes_text(plan: Plan) -> str:
    if plan.mode is Mode.REFRESH_ONLY:
        return "The state matches what exists."
    if plan.recorded:
        return f'Cluster "{plan.cluster}" has the nodes and resources of its spec.'
    if plan.mode is Mode.DESTROY:
        return "There is nothing to destroy."
    return f'Cluster "{plan.cluster}" matches its spec.'


def describe_change(change: Change, plan: Plan) -> Iterator[str]:
    """Yield the few properties that distinguish groups."""
    if change.kind == "resource":
        yield "supporting resource"
        return
    config = plan.configs.get(change.after or change.before or "")
    vm = _shown_vm(change)
    if vm is None:
        if config is not None:
            yield from describe_config(config)
        return
    size, is_spot = vm
    if size:
        yield size
    if is_spot:
        yield "spot"
    if config is not None and config.processes > 1:
        yield f"{config.processes} processes"


def describe_config(config: NodeConfig) -> Iterator[str]:
    """Yield size or requirements, spot, and processes."""
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
    """Yield each field, with the values on the same line if they fit; paths take `min_width` columns."""
    fields, hidden = _hide_secrets(fields)
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
        if field.path in hidden:
            path = field.path.ljust(min(column, available))
            yield line(f"{_INDENT}{path}   ", ("(hidden value changed)", "yellow"), *forces)
        elif len(field.path) < widths_left[field.path]:
            before, after = _format_values(field)
            path = field.path.ljust(min(column, widths_left[field.path]))
            yield line(f"{_INDENT}{path}   ", before, (" -> ", "yellow"), after, *forces)
        else:
            yield line(f"{_INDENT}{field.path}", *forces)
            yield from _value_diff_lines(field, width)


def _hide_secrets(fields: Sequence[FieldChange]) -> tuple[list[FieldChange], set[str]]:
    """Return the fields without secrets, and the paths of those that then do not show a difference."""
    shown = [redact_field(field) for field in fields]
    return shown, {field.path for field in shown if field.before == field.after}


def redact_field(field: FieldChange) -> FieldChange:
    """Return a changed field whose values may be shown."""
    path = field.path.split(".")
    before, after = redact(field.before, *path), redact(field.after, *path)
    return field.model_copy(update={"before": before, "after": after})


def _format_values(field: FieldChange) -> tuple[str, str]:
    return format_value(field.before, field.path), format_value(field.after, field.path)


def _value_diff_lines(field: FieldChange, width: int) -> Iterator[Line]:
    """Yield the items that a long value loses and gains."""
    before, after = format_items(field.before), format_items(field.after)
    removed = [text for text in before if text not in set(after)]
    added = [text for text in after if text not in set(before)]
    indent = f"{_INDENT}  "
    if not removed and not added:
        yield line(f"{indent}(same items in another order)")
    for symbol, style, texts in (("- ", "red", removed), ("+ ", "green", added)):
        for text in texts[:_MAX_ITEMS]:
            yield line(indent, (symbol, style), elide(text, max(width, 40) - len(indent) - 2))
        if len(texts) > _MAX_ITEMS:
            yield line(indent, (symbol, style), f"… and {len(texts) - _MAX_ITEMS} more")


def footer_lines(plan: Plan, width: int) -> Iterator[Line]:
    """Yield recorded settings, cost, access, and elastic groups; `width` in columns."""
    yield from _recorded_lines(plan, width)
    if plan.cost is not None and (plan.cost.before, plan.cost.after) != (0.0, 0.0):
        yield line(("Cost:", "bold"), f" {format_cost(plan.cost)}")
        if plan.cost.not_counted:
            yield line(f"Not counted: {', '.join(plan.cost.not_counted)}.")
    for access in format_access(plan.resources or {}):
        yield from _wrapped_lines(f"Access: {access}", width)
    for name, group in plan.elastic.items():
        yield from _wrapped_lines(_elastic_text(name, group, _changes_number(name, plan)), width)


def _recorded_lines(plan: Plan, width: int) -> Iterator[Line]:
    for field in map(redact_field, plan.recorded):
        before, after = _format_values(field)
        change = "changed" if before == after else f"{before} -> {after}"
        yield from _wrapped_lines(f"Settings: {field.path} {change} (recorded by apply)", width)


def _changes_number(group: str, plan: Plan) -> bool:
    """Return whether an apply changes how many nodes a group has."""
    return any(
        change.kind == "node"
        and split_name(change.name)[0] == group
        and change.action in (Action.CREATE, Action.DESTROY)
        for change in plan.changes
    )


def _elastic_text(name: str, group: ElasticGroup, is_changing: bool) -> str:
    number = "no nodes" if not group.nodes else f"{group.nodes} node{'s' * (group.nodes > 1)}"
    return (
        f"Elastic: {name} {'will have' if is_changing else 'has'} {number} (min {group.min}, max {group.max}); "
        "its size changes only through `scale` and `adapt`."
    )


def format_cost(cost: Cost) -> str:
    """Return the cost per hour before and after, and the unknown prices."""
    before = format_usd(cost.before, cost.unknown_before)
    after = format_usd(cost.after, cost.unknown)
    notes = format_price_notes(cost.source, {*cost.unknown_before, *cost.unknown})
    highest = "" if cost.highest is None else f", at most {cost.highest:.2f} USD/h"
    return (after if before == after else f"{before} -> {after}") + highest + notes


def _wrapped_lines(text: str, width: int) -> Iterator[Line]:
    return (line(part) for part in wrap(text, width))
