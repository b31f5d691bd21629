"""A plan as people read it: one line for each run of identical nodes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from planapply.model.names import SCHEDULER, step_between, to_hostlist
from planapply.model.node import NodeConfig
from planapply.model.plan import (
    Action,
    Change,
    ChangeReason,
    DriftItem,
    FieldChange,
    Mode,
    Plan,
)
from planapply.render.field_change import format_values, redact_field, value_diff
from planapply.render.plan_footer import (
    cost_text,
    other_texts,
    recorded_texts,
    settings_texts,
    waves_text,
)
from planapply.render.reasons import drift_text, reason_text
from planapply.render.text import BLANK_LINE, Line, Span, align_columns, elide, line, wrap
from planapply.render.values import (
    format_location,
    format_size,
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
        is_implied = first.fields and first.reason is not ChangeReason.PLUGIN_MISSING
        is_implied = is_implied or first.reason in _IMPLIED_REASONS
        return "" if is_implied else reason_text(self.changes)


def plan_lines(plan: Plan, width: int = 80) -> list[Line]:
    """Return the whole plan without its diagnostics; `width` in columns."""
    if plan.mode is Mode.REFRESH_ONLY and plan.drift:
        return _drift_lines(plan, width)
    if not plan.changes:
        if plan.unrecorded:
            return [*unrecorded_lines(plan), BLANK_LINE, *_footer_lines(plan, width)]
        title = "No nodes change." if plan.recorded else "No changes."
        return [
            line((title, "bold green"), f" {_no_changes_text(plan)}"),
            *_footer_lines(plan, width),
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
    verb = "destroy" if is_full_destroy(plan) else "change"
    lines = [line(f"planapply will {verb} {format_cluster(plan)}:"), BLANK_LINE]
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
        lines += [BLANK_LINE, *unrecorded_lines(plan)]
    return [
        *lines,
        BLANK_LINE,
        line(("Plan:", "bold"), summary),
        *([line(("Waves:", "bold"), f" {waves}")] if (waves := waves_text(plan)) else []),
        *_footer_lines(plan, width),
    ]


def unrecorded_lines(plan: Plan) -> list[Line]:
    """Return the drift that an apply records, and that is no change of a node, under a title."""
    return [
        line(f"planapply will update the state of {format_cluster(plan)}:"),
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
            line(f"planapply will update the state of {format_cluster(plan)}:"),
            BLANK_LINE,
            *_drift_table(recorded),
            BLANK_LINE,
            *_wrapped_lines("No VM will be launched or terminated.", width),
        ]
    if other:
        text = "A refresh does not change the following; run `planapply plan` to see what an apply would do:"
        title = text if recorded else f"No changes to the state of {format_cluster(plan)}. {text}"
        lines += [*([BLANK_LINE] if recorded else []), *_wrapped_lines(title, width)]
        lines += [BLANK_LINE, *_drift_table(other)]
    if plan.recorded:
        lines += [BLANK_LINE, *_titled_lines(recorded_texts(plan), width)]
    return lines


def _drift_table(items: Sequence[DriftItem]) -> Iterator[Line]:
    runs: list[list[DriftItem]] = []
    for item in items:
        last = runs[-1][-1] if runs else item
        is_alike = (last.kind, last.fields, last.ended) == (item.kind, item.fields, item.ended)
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


def format_cluster(plan: Plan) -> str:
    """Return the name and the location of the plan's cluster."""
    location = format_location(plan.provider, {**plan.settings, **plan.cloud})
    return f'cluster "{plan.cluster}" ({location})'


def is_full_destroy(plan: Plan) -> bool:
    """Return whether the plan destroys the whole cluster."""
    return plan.mode is Mode.DESTROY and any(change.name == SCHEDULER for change in plan.changes)


def _no_changes_text(plan: Plan) -> str:
    if plan.mode is Mode.REFRESH_ONLY:
        return "The state matches what exists."
    if plan.recorded:
        return f'Cluster "{plan.cluster}" has the nodes and resources of its spec.'
    if plan.mode is Mode.DESTROY:
        return "There is nothing to destroy."
    if plan.mode is Mode.SCALE:
        return "The groups have these numbers of nodes."
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
    widths_left = {field.path: available - sum(map(len, format_values(field))) for field in fields}
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
            before, after = format_values(field)
            path = field.path.ljust(min(column, widths_left[field.path]))
            yield line(f"{_INDENT}{path}   ", before, (" -> ", "yellow"), after, *forces)
        else:
            yield line(f"{_INDENT}{field.path}", *forces)
            yield from _value_diff_lines(field, width)


def _hide_secrets(fields: Sequence[FieldChange]) -> tuple[list[FieldChange], set[str]]:
    """Return the fields without secrets, and the paths of those that then do not show a difference."""
    shown = [redact_field(field) for field in fields]
    return shown, {field.path for field in shown if field.before == field.after}


def _value_diff_lines(field: FieldChange, width: int) -> Iterator[Line]:
    indent = f"{_INDENT}  "
    for symbol, text in value_diff(field):
        if not symbol:
            yield line(f"{indent}{text}")
            continue
        shown = elide(text, max(width, 40) - len(indent) - 2)
        yield line(indent, (f"{symbol} ", "red" if symbol == "-" else "green"), shown)


def _footer_lines(plan: Plan, width: int) -> Iterator[Line]:
    yield from _titled_lines(settings_texts(plan), width)
    if cost := cost_text(plan):
        yield line(("Cost:", "bold"), f" {cost}")
    yield from _titled_lines(other_texts(plan), width)


def _titled_lines(texts: Iterable[tuple[str, str]], width: int) -> Iterator[Line]:
    for title, text in texts:
        yield from _wrapped_lines(f"{title}: {text}", width)


def _wrapped_lines(text: str, width: int) -> Iterator[Line]:
    return (line(part) for part in wrap(text, width))
