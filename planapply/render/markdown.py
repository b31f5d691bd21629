"""A plan in GitHub's Markdown, for a pull request.

A pull request may come from anyone: a text from the plan is inert wherever it stands. Its special characters are
character references, which have no meaning in Markdown and HTML; and it is code, in which GitHub mentions no one
and links nothing.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence

from planapply.model.names import split_name
from planapply.model.plan import Action, FieldChange, Plan
from planapply.render.field_change import redact_field
from planapply.render.plan import (
    ChangeRun,
    describe_change,
    group_changes,
    is_full_destroy,
    plan_lines,
    unrecorded_lines,
)
from planapply.render.plan_footer import cost_text, other_texts, settings_texts, waves_text
from planapply.render.text import elide, make_printable, to_plain_text
from planapply.render.values import format_location, format_value

MAX_LENGTH = 60_000
"""Characters; GitHub accepts 65,536 in one comment."""
_LIMITS = (50, 20, 5, 1)
"""Numbers of rows that are tried until the text is short enough."""
_LONGEST_VALUE = 200
_LONGEST_TEXT = 1000
_PLAIN = frozenset(string.ascii_letters + string.digits + " -.,/+")
"""Characters without a meaning in the middle of a line of Markdown, and in a label of Mermaid."""
_LINK = re.compile(r"(?<=www)\.", re.IGNORECASE)
_ACTIONS = {
    Action.CREATE: "create",
    Action.UPDATE: "update in place",
    Action.REPLACE: "replace",
    Action.DESTROY: "destroy",
}
_CLASSES = """\
  classDef create stroke:#1a7f37,stroke-width:2px
  classDef update stroke:#9a6700,stroke-width:2px
  classDef replace stroke:#9a6700,stroke-width:2px,stroke-dasharray:5
  classDef destroy stroke:#cf222e,stroke-width:2px
"""


def plan_markdown(plan: Plan) -> str:
    """Return a plan as a table, with its cost, a picture of its groups, and collapsed details.

    The text has at most `MAX_LENGTH` characters; a long plan is cut, and says so.
    """
    for limit in _LIMITS:
        text = "\n\n".join(_parts(plan, limit)) + "\n"
        if len(text) <= MAX_LENGTH:
            return text
    return _title(plan) + "\n\nThe plan is too long for a comment; `planapply plan` prints it.\n"


def code(text: str, length: int = _LONGEST_VALUE) -> str:
    """Return a text as inline code, inert and on one line; at most `length` columns of it."""
    return f"<code>{_escape(elide(text, length))}</code>" if text else ""


def _escape(text: str, *, is_line: bool = True) -> str:
    shown = make_printable(text, is_line=is_line).replace("\t", " ")
    escaped = "".join(c if c in _PLAIN or c == "\n" else f"&#{ord(c)};" for c in shown)
    return _LINK.sub("&#46;", escaped)


def _parts(plan: Plan, limit: int) -> Iterator[str]:
    yield _title(plan)
    if not plan.changes:  # a refresh-only plan has drift, which is short as text
        lines = to_plain_text(plan_lines(plan)).splitlines()
        text = "\n".join([*lines[:limit], *_rest(len(lines) - limit, "lines")])
        yield f"<pre>{_escape(elide(text, 8000), is_line=False)}</pre>"
        yield from _diagnostics(plan, limit)
        return
    counts = plan.summary
    yield (
        f"**Plan:** {counts['add']} to add, {counts['change']} to change, "
        f"{counts['destroy']} to destroy."
    )
    if waves := waves_text(plan):
        yield f"**Waves:** {code(waves, _LONGEST_TEXT)}"
    if cost := cost_text(plan):
        yield f"**Cost:** {code(cost, _LONGEST_TEXT)}"
    runs = group_changes(plan.changes)
    rows = [_run_cells(run, plan) for run in runs]
    yield _table(("", "Action", "Nodes", "", "Size", "Reason"), rows, limit)
    yield _picture(plan, limit)
    yield from _diagnostics(plan, limit)
    yield from _changed_settings(runs, limit)
    yield from _notes(plan, limit)


def _title(plan: Plan) -> str:
    verb = "destroy" if is_full_destroy(plan) else "change"
    location = format_location(plan.provider, {**plan.settings, **plan.cloud})
    cluster = f"{code(plan.cluster)} ({code(location)})"
    if not plan.changes:
        return f"### Plan of cluster {cluster}"
    return f"### planapply will {verb} cluster {cluster}"


def _run_cells(run: ChangeRun, plan: Plan) -> list[str]:
    change = run.changes[0]
    return [
        code(change.action.symbol),
        _ACTIONS[change.action],
        code(run.name),
        run.count,
        code("  ".join(describe_change(change, plan))),
        code(run.reason),
    ]


def _changed_settings(runs: Sequence[ChangeRun], limit: int) -> Iterator[str]:
    rows = [
        [code(run.name), *_field_cells(redact_field(field))]
        for run in runs
        for field in run.changes[0].fields
    ]
    if rows:
        table = _table(("Nodes", "Setting", "Before", "After", ""), rows, limit)
        yield _details("Changed settings", table)


def _field_cells(field: FieldChange) -> list[str]:
    before, after = (code(format_value(v, field.path)) for v in (field.before, field.after))
    if field.before == field.after:
        before, after = "(hidden)", "(hidden, changed)"
    return [code(field.path), before, after, "replaces" if field.forces_replacement else ""]


def _notes(plan: Plan, limit: int) -> Iterator[str]:
    texts = (*settings_texts(plan), *other_texts(plan))
    notes = [f"{title}: {text}" for title, text in texts]
    if plan.unrecorded:
        notes += filter(None, (to_plain_text([text]).strip() for text in unrecorded_lines(plan)))
    if notes:
        yield _details(
            "Access, settings, and elastic groups",
            _list((code(text, _LONGEST_TEXT) for text in notes), limit),
        )


def _diagnostics(plan: Plan, limit: int) -> Iterator[str]:
    if plan.diagnostics:
        yield _list(
            (
                f"**{d.severity.value.capitalize()}:** "
                f"{code(f'{d.summary}. {d.detail}'.strip(), _LONGEST_TEXT)}"
                for d in plan.diagnostics
            ),
            limit,
        )


def _picture(plan: Plan, limit: int) -> str:
    """Return a diagram with one box for each group, and the numbers of its changes."""
    groups: dict[str, list[Action]] = {}
    for change in plan.changes:
        name = split_name(change.name)[0] if change.kind == "node" else change.name
        groups.setdefault(name, []).append(change.action)
    lines = [
        f"  g{number}[{_label(name, actions)}]:::{_main_action(actions)}"
        for number, (name, actions) in enumerate(groups.items())
    ]
    boxes = [*lines[:limit], *(f"  rest[{text}]" for text in _rest(len(lines) - limit, "groups"))]
    cluster = f"  subgraph cluster[{_quote(plan.cluster, str)}]"
    body = "\n".join([cluster, *boxes, "  end"])
    return f"```mermaid\nflowchart LR\n{body}\n{_CLASSES}```"


def _label(name: str, actions: Sequence[Action]) -> str:
    counts = ", ".join(
        f"{action.symbol}{actions.count(action)}" for action in dict.fromkeys(actions)
    )
    return _quote(name, lambda escaped: f"{escaped}<br>{''.join(map(_entity, counts))}")


def _main_action(actions: Sequence[Action]) -> str:
    return actions[0].value if len(set(actions)) == 1 else Action.REPLACE.value


def _quote(text: str, finish: Callable[[str], str]) -> str:
    """Return a text as a quoted label of Mermaid, whose references begin with a number sign."""
    shown = make_printable(elide(text, 60), is_line=True).replace("\t", " ")
    return f'"{finish("".join(map(_entity, shown)))}"'


def _entity(character: str) -> str:
    return character if character in _PLAIN else f"#{ord(character)};"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], limit: int) -> str:
    shown = [*rows[:limit], *([text] for text in _rest(len(rows) - limit, "rows"))]
    lines = [headers, ["---"] * len(headers), *shown]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _list(items: Iterable[str], limit: int) -> str:
    found = list(items)
    return "\n".join(f"- {x}" for x in [*found[:limit], *_rest(len(found) - limit, "items")])


def _rest(number: int, noun: str) -> list[str]:
    return [f"… and {number} more {noun}"] if number > 0 else []
