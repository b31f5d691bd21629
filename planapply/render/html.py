"""Plans and reports as HTML, for notebooks; every text from a plan is escaped."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from planapply.model.plan import FieldChange, Plan
from planapply.render.field_change import redact_field, value_diff
from planapply.render.plan import (
    ChangeRun,
    describe_change,
    format_cluster,
    group_changes,
    is_full_destroy,
    plan_lines,
    unrecorded_lines,
)
from planapply.render.plan_footer import footer_texts
from planapply.render.text import elide, make_printable, to_plain_text
from planapply.render.values import format_value

_COLORS = {"create": "#1a7f37", "update": "#9a6700", "replace": "#9a6700", "destroy": "#cf222e"}
_LEFT = 'style="text-align: left; vertical-align: top"'
_MAX_VALUE = 60
"""Characters of a changed value; of a longer one, the items that it loses and gains are shown."""


def plan_html(plan: Plan) -> str:
    """Return a plan as a table: action, nodes, size, reason, changed fields; below it the cost and more."""
    if not plan.changes:  # a refresh-only plan has drift, which is short as text
        return pre_html(to_plain_text(plan_lines(plan))) + _diagnostics_html(plan)
    verb = "destroy" if is_full_destroy(plan) else "change"
    rows = [_cells(run, plan) for run in group_changes(plan.changes)]
    counts = plan.summary
    summary = (
        f"{counts['add']} to add, {counts['change']} to change, {counts['destroy']} to destroy."
    )
    unrecorded = pre_html(to_plain_text(unrecorded_lines(plan)))
    return (
        f"<div><p>planapply will {verb} {text_html(format_cluster(plan))}:</p>"
        + table_html(("Action", "Nodes", "Size", "Reason", "Changes"), rows)
        + (unrecorded if plan.unrecorded else "")
        + facts_html([("Plan", summary), *footer_texts(plan)])
        + _diagnostics_html(plan)
        + "</div>"
    )


def report_html(title: str, cells: Mapping[str, str]) -> str:
    """Return the result of an apply as a table of one row: how many nodes were added, and so on."""
    rows = [[text_html(value) for value in cells.values()]]
    return f"<div><p><b>{text_html(title)}</b></p>{table_html((*cells,), rows)}</div>"


def facts_html(facts: Iterable[tuple[str, str]]) -> str:
    """Return texts, each on a line with its title; what is in backticks is code."""
    return lines_html((title, _prose_html(text)) for title, text in facts)


def lines_html(lines: Iterable[tuple[str, str]]) -> str:
    """Return lines that are HTML already, each with its title."""
    texts = (f"<b>{text_html(title)}:</b> {html}" for title, html in lines)
    return f"<p>{'<br>'.join(texts)}</p>"


def table_html(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table without the columns that are empty; the cells of `rows` are HTML already."""
    kept = [i for i in range(len(headers)) if any(row[i] for row in rows)]
    head = "".join(f'<th style="text-align: left">{text_html(headers[i])}</th>' for i in kept)
    body = "".join(
        "<tr>" + "".join(f"<td {_LEFT}>{row[i]}</td>" for i in kept) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def pre_html(text: str) -> str:
    """Return lines whose columns are aligned with spaces."""
    style = "font-family: var(--jp-code-font-family, monospace); line-height: 1.4"
    return f'<pre style="{style}">{text_html(text)}</pre>'


def link_html(url: str) -> str:
    """Return a link to a web page, whose text is its URL."""
    text = text_html(url)
    if not url.startswith(("http://", "https://", "/")):
        return text
    return f'<a href="{text}" target="_blank">{text}</a>'


def text_html(text: str) -> str:
    """Return a text for use in HTML, without control characters."""
    return escape(make_printable(text))


def _prose_html(text: str) -> str:
    """Return a text with its parts in backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", text_html(text))


def _cells(run: ChangeRun, plan: Plan) -> tuple[str, ...]:
    change = run.changes[0]
    action = (
        f'<span style="color: {_COLORS[change.action]}">{change.action.symbol} '
        f"{change.action.value}</span>"
    )
    nodes = " ".join(filter(None, (run.name, run.count)))
    size = "  ".join(describe_change(change, plan))
    fields = "<br>".join(_field_html(field) for field in change.fields)
    return action, text_html(nodes), text_html(size), text_html(run.reason), fields


def _field_html(field: FieldChange) -> str:
    shown = redact_field(field)
    before, after = (format_value(value, field.path) for value in (shown.before, shown.after))
    if shown.before == shown.after:
        text = text_html("(hidden value changed)")
    elif max(len(before), len(after)) <= _MAX_VALUE:
        text = text_html(f"{before} -> {after}")
    else:
        items = (elide(f"{symbol} {item}".strip(), 100) for symbol, item in value_diff(shown))
        text = "".join(f"<br>{text_html(item)}" for item in items)
    forces = " (forces replacement)" if field.forces_replacement else ""
    return f"{text_html(field.path)}: {text}{forces}"


def _diagnostics_html(plan: Plan) -> str:
    texts = []
    for diagnostic in plan.diagnostics:
        parts = [f"{diagnostic.summary}."]
        if diagnostic.source is not None:
            parts.append(f"({diagnostic.source.file}:{diagnostic.source.line})")
        parts.append(diagnostic.detail)
        title = diagnostic.severity.value.capitalize()
        texts.append(facts_html([(title, " ".join(filter(None, parts)))]))
    return "".join(texts)
