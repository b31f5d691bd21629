"""Plans and reports as HTML, for notebooks; every text from a plan is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from planapply.model.plan import FieldChange, Mode, Plan
from planapply.render.plan import (
    ChangeRun,
    describe_change,
    format_cost,
    group_changes,
    plan_lines,
    redact_field,
)
from planapply.render.text import make_printable, to_plain_text
from planapply.render.values import format_value

_COLORS = {"create": "#1a7f37", "update": "#9a6700", "replace": "#9a6700", "destroy": "#cf222e"}


def plan_html(plan: Plan) -> str:
    """Return a plan as a table: action, nodes, size, reason, changed fields; below it the cost."""
    if not plan.changes:  # a refresh-only plan has drift, which is short as text
        return f"<pre>{text_html(to_plain_text(plan_lines(plan)))}</pre>{_diagnostics_html(plan)}"
    verb = "destroy" if plan.mode is Mode.DESTROY else "change"
    rows = "".join(_row_html(run, plan) for run in group_changes(plan.changes))
    counts = plan.summary
    return (
        f"<div><p>planapply will {verb} cluster <b>{text_html(plan.cluster)}</b> "
        f"({text_html(plan.provider)}):</p>"
        + table_html(("Action", "Nodes", "Size", "Reason", "Changes"), rows)
        + f"<p><b>Plan:</b> {counts['add']} to add, {counts['change']} to change, "
        f"{counts['destroy']} to destroy.</p>"
        + (f"<p><b>Cost:</b> {text_html(format_cost(plan.cost))}</p>" if plan.cost else "")
        + _diagnostics_html(plan)
        + "</div>"
    )


def report_html(title: str, counts: Mapping[str, int], facts: Iterable[tuple[str, str]]) -> str:
    """Return the result of an apply: how many nodes were added, and so on, and further facts."""
    numbers = ", ".join(f"{number} {text_html(name)}" for name, number in counts.items())
    lines = "".join(f"<br>{text_html(name)}: {text_html(value)}" for name, value in facts)
    return f"<p><b>{text_html(title)}:</b> {numbers}.{lines}</p>"


def table_html(headers: Sequence[str], rows: str) -> str:
    """Return a table; `rows` are HTML already."""
    head = "".join(f'<th style="text-align: left">{text_html(name)}</th>' for name in headers)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def row_html(cells: Iterable[str]) -> str:
    """Return a row of a table; `cells` are HTML already."""
    return "<tr>" + "".join(f'<td style="text-align: left">{cell}</td>' for cell in cells) + "</tr>"


def text_html(text: str) -> str:
    """Return a text for use in HTML, without control characters."""
    return escape(make_printable(text))


def _row_html(run: ChangeRun, plan: Plan) -> str:
    change = run.changes[0]
    action = (
        f'<span style="color: {_COLORS[change.action]}">{change.action.symbol} '
        f"{change.action.value}</span>"
    )
    nodes = " ".join(filter(None, (run.name, run.count)))
    size = "  ".join(describe_change(change, plan))
    fields = "<br>".join(_field_html(field) for field in change.fields)
    return row_html((action, text_html(nodes), text_html(size), text_html(run.reason), fields))


def _field_html(field: FieldChange) -> str:
    shown = redact_field(field)
    before, after = (format_value(value, field.path) for value in (shown.before, shown.after))
    values = "(hidden value changed)" if shown.before == shown.after else f"{before} -> {after}"
    return text_html(f"{field.path}: {values}") + (
        " (forces replacement)" if field.forces_replacement else ""
    )


def _diagnostics_html(plan: Plan) -> str:
    return "".join(
        f"<p><b>{diagnostic.severity.value.capitalize()}:</b> {text_html(diagnostic.summary)}."
        + (f" {text_html(diagnostic.detail)}" if diagnostic.detail else "")
        + "</p>"
        for diagnostic in plan.diagnostics
    )
