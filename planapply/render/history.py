"""The changes of a cluster as people, and programs, read them."""

from datetime import UTC, datetime
from typing import Any

from planapply.model.history import CLUSTER_CHANGE, History, PastChange
from planapply.model.plan import FORMAT_VERSION
from planapply.render.text import BLANK_LINE, Line, Span, align_columns, display_width, elide, line
from planapply.render.values import format_elapsed, format_time, format_total

_HEADERS = ("WHEN (UTC)", "CHANGES", "TIME", "USD/H", "OUTCOME", "WHAT", "WHO")
_WHAT, _WHO = 5, 6
_GAP = 2
_MIN_WIDTH = 8
"""Columns to which a command, and a user, may be shortened."""
_STYLES = {"done": "green", "running": "yellow"}


def history_lines(history: History, width: int | None = None) -> list[Line]:
    """Return one line per change, the newest last, and what the cluster has cost.

    `width` in columns limits the table; None shortens nothing.
    """
    if not history.changes:
        return [line(f'The state of cluster "{history.cluster}" records no changes.')]
    lines = [line((f'Changes of cluster "{history.cluster}"', "bold"), ":"), BLANK_LINE]
    rows = [list(_HEADERS), *(_cells(change) for change in history.changes)]
    for column in range(len(_HEADERS)):  # a column without values has no header either
        if not any(row[column] for row in rows[1:]):
            rows[0][column] = ""
    if width is not None:
        width -= 2
        _fit(rows, width)
    headers, *cells = align_columns(rows, gap=_GAP, width=width)
    lines.append(line("  ", *((text, "bold") for text in headers)))
    outcome = sum(bool(header) for header in rows[0][:4])
    for change, texts in zip(history.changes, cells, strict=True):
        style = _STYLES.get(change.outcome, "red")
        spans: list[Span] = [(text, style if i == outcome else "") for i, text in enumerate(texts)]
        lines.append(line("  ", *spans))
    spend = history.spend
    if spend is not None:
        total = f"Cost so far: {format_total(spend)} USD (as of {format_time(spend.until)})"
        lines += [BLANK_LINE, line(total)]
    return lines


def _fit(rows: list[list[str]], width: int) -> None:
    """Shorten the commands and the users, the wider ones first, so that the rows fit."""
    widths = [max(display_width(row[i]) for row in rows) for i in range(len(_HEADERS))]
    excess = sum(widths) + _GAP * (sum(map(bool, widths)) - 1) - width
    for _ in range(excess):
        column = max(_WHAT, _WHO, key=widths.__getitem__)
        widths[column] = max(_MIN_WIDTH, widths[column] - 1)
    for row in rows:
        for column in (_WHAT, _WHO):
            row[column] = elide(row[column], widths[column])


def _cells(change: PastChange) -> list[str]:
    started = datetime.fromtimestamp(change.started_at, UTC)
    counts = (("+", change.added), ("~", change.changed), ("-", change.destroyed))
    cost = "unknown" if change.unknown_prices else ""
    if change.usd_per_hour is not None:
        cost = f"{'>= ' if change.unknown_prices else ''}{change.usd_per_hour:.2f}"
    what = change.what
    if what == CLUSTER_CHANGE and change.group:  # the other commands say what they were for
        what = f"{what} {change.group}"
    return [
        f"{started:%Y-%m-%d %H:%M}",
        " ".join(f"{sign}{count}" for sign, count in counts if count),
        format_elapsed(change.seconds),
        cost,
        change.outcome,
        f"{what} ({change.times} times)" if change.times > 1 else what,
        change.who,
    ]


def history_document(history: History) -> dict[str, Any]:
    """Return the document of `history --json`."""
    spend = history.spend
    return {
        "format_version": FORMAT_VERSION,
        "cluster": history.cluster,
        "changes": [
            {"time": _to_iso(change.started_at)}
            | change.model_dump(mode="json", exclude={"started_at", "lock"})
            for change in history.changes
        ],
        "cost": None
        if spend is None
        else {
            "usd": spend.usd,
            "until": _to_iso(spend.until),
            "at_least": spend.at_least,
            "at_most": spend.at_most,
        },
    }


def _to_iso(timestamp: float) -> str:
    return (
        datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
