"""The status of a cluster as people read it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planapply.model.end_reason import EndReason
from planapply.model.history import Spend
from planapply.model.names import SCHEDULER, format_names, step_between, to_hostlist
from planapply.model.plan import DriftItem, DriftKind
from planapply.model.quantities import format_bytes
from planapply.model.status import NodeStatus, Status, total_usage
from planapply.render.access import format_access
from planapply.render.reasons import drift_text, end_text
from planapply.render.text import (
    BLANK_LINE,
    DEFAULT_WIDTH,
    Line,
    Span,
    align_columns,
    elide,
    line,
    wrap,
)
from planapply.render.values import (
    format_duration,
    format_location,
    format_price_notes,
    format_time,
    format_total,
    format_usd,
)

MAX_ROWS = 40
"""With more nodes than this, consecutive nodes that are alike share a row."""
_MAX_UNKNOWN_WORKERS = 20
"""Names of workers that are no node; `status --json` has them all."""
_MAX_NAME_WIDTH = 80
"""Columns of such a name."""
_HEADERS = ("NODE", "STATUS", "AGE", "SIZE", "THREADS", "MEMORY", "TASKS", "ADDRESS", "VM")
_STYLES = {"running": "green", "gone": "red", "stopping": "red", "stopped": "red"}


def status_lines(status: Status, width: int | None = None) -> list[Line]:
    """Return the nodes, whether they have joined, the drift, and the cost.

    `width` in columns limits the table; None omits nothing.
    """
    location = format_location(status.provider, status.cloud)
    lines = [line((f'Cluster "{status.cluster}"', "bold"), f" ({location}): {_headline(status)}")]
    if status.nodes:
        lines += [BLANK_LINE, *_table(status, width)]
    facts = list(_facts(status, width or DEFAULT_WIDTH))
    return [*lines, BLANK_LINE, *facts] if facts else lines


def _headline(status: Status) -> str:
    workers = [node for node in status.nodes if node.name != SCHEDULER]
    if not status.nodes:
        return "no nodes"
    if status.scheduler_address is None:
        return "no scheduler"
    if not status.scheduler_answers:
        return "the scheduler does not answer"
    if not workers:
        return "a scheduler without workers"
    joined = sum(_has_joined(node) for node in workers)
    return f"{joined} of {len(workers)} worker node{'s' * (len(workers) > 1)} joined"


def _has_joined(node: NodeStatus) -> bool:
    return node.joined is not None and node.joined >= node.processes


@dataclass
class _Row:
    nodes: list[NodeStatus]

    def try_append(self, node: NodeStatus) -> bool:
        last = self.nodes[-1]
        is_similar = (_format_state(last), _format_vm(last)) == (
            _format_state(node),
            _format_vm(node),
        )
        if is_similar and step_between(last.name, node.name) == 1:
            self.nodes.append(node)
            return True
        return False


def _rows(nodes: Sequence[NodeStatus]) -> list[_Row]:
    rows: list[_Row] = []
    for node in nodes:
        if not (len(nodes) > MAX_ROWS and rows and rows[-1].try_append(node)):
            rows.append(_Row([node]))
    return rows


def _table(status: Status, width: int | None) -> Iterator[Line]:
    rows = _rows(status.nodes)
    cells = [_cells(row) for row in rows]
    # A column without values has no header, so that it is omitted.
    headers = [
        header if any(column) else ""
        for header, column in zip(_HEADERS, zip(*cells, strict=True), strict=True)
    ]
    header_texts, *cell_rows = align_columns(
        [headers, *cells], width=None if width is None else width - 2
    )
    yield line("  ", *((text, "bold") for text in header_texts))
    for row, texts in zip(rows, cell_rows, strict=True):
        node = row.nodes[0]
        style = _STYLES.get(node.status, "yellow")
        if node.status == "running" and node.name != SCHEDULER and not _has_joined(node):
            style = "yellow"
        spans: list[Span] = [(text, style if i == 1 else "") for i, text in enumerate(texts)]
        yield line("  ", *spans)


def _cells(row: _Row) -> list[str]:
    first = row.nodes[0]
    name = to_hostlist(node.name for node in row.nodes)[0]
    threads, memory, tasks = _format_usage(row)
    if len(row.nodes) > 1:
        ages = [node.age for node in row.nodes if node.age is not None]
        age = f"up to {format_duration(max(ages))}" if ages else ""
        name, address, vm = f"{name}   ({len(row.nodes)})", "", ""
    else:
        age = "" if first.age is None else format_duration(first.age)
        address = first.public_address or first.private_address or ""
        vm = first.vm or ""
    return [
        name,
        _format_state(first),
        age,
        _format_vm(first),
        threads,
        memory,
        tasks,
        address,
        vm,
    ]


def _format_usage(row: _Row) -> tuple[str, str, str]:
    """Return the threads, the memory, and the tasks of a row's nodes; of several, the sums."""
    usage = total_usage([node.usage for node in row.nodes if node.usage is not None])
    memory = "" if usage.memory is None else format_bytes(usage.memory)
    if memory and usage.memory_limit:
        memory += f" of {format_bytes(usage.memory_limit)}"
    numbers = ["" if n is None else f"{n:,}" for n in (usage.threads, usage.tasks)]
    return numbers[0], memory, numbers[1]


def _format_state(node: NodeStatus) -> str:
    if node.status != "running":
        return node.status
    if node.joined is None:
        return "running"
    if node.name == SCHEDULER:
        return "answers"
    if _has_joined(node):
        return "joined"
    return f"{node.joined} of {node.processes} joined" if node.joined else "not joined"


def _format_vm(node: NodeStatus) -> str:
    return "  ".join(part for part in (node.size, node.zone, "spot" if node.spot else "") if part)


def _facts(status: Status, width: int) -> Iterator[Line]:
    if status.scheduler_address:
        yield line(f"Scheduler:  {status.scheduler_address}")
    if status.dashboard_url:
        yield line(f"Dashboard:  {status.dashboard_url}")
    unknown = status.unknown_prices
    if status.usd_per_hour is not None or unknown:
        cost = format_usd(status.usd_per_hour, unknown)
        if status.usd_so_far is not None:
            total = Spend(
                usd=status.usd_so_far,
                until=0,
                at_least=status.usd_so_far_at_least,
                at_most=status.usd_so_far_at_most,
            )
            cost += f", {format_total(total)} USD so far"
        yield line(f"Cost:       {cost}{format_price_notes(status.price_source, unknown)}")
        if status.not_counted:
            yield line(f"            not counted: {', '.join(status.not_counted)}")
    if left := _time_left(status):
        yield line(f"Time left:  {left}")
    ends = [ended for ended in status.ended if ended.name == SCHEDULER]
    if ends and not any(node.name == SCHEDULER for node in status.nodes):
        yield line(
            f"Last ended: {end_text(ends[-1].reason)} (noticed {format_time(ends[-1].found_at)})"
        )
    for access in format_access(status.resources):
        for number, part in enumerate(wrap(access, max(width - 12, 40))):
            yield line(f"{'' if number else 'Access:':<12}{part}")
    for text in _warnings(status):
        for part in wrap(text, width):
            yield line((part, "yellow"))


def _time_left(status: Status) -> str:
    """Return the time until the scheduler stops, and until the first VM and the scheduler reach their ttl."""
    parts = [f"{format_duration(s)} until {key}" for key, s in status.time_left.items()]
    return ", ".join([*parts, *_ttl_left(status)])


def _ttl_left(status: Status) -> Iterator[str]:
    left = {node.name: node.ttl_left for node in status.nodes if node.ttl_left is not None}
    if not left:
        return
    first = min(left, key=lambda name: left[name])
    shown = {name: left[name] for name in dict.fromkeys((SCHEDULER, first)) if name in left}
    if len({format_duration(seconds) for seconds in left.values()}) == 1:
        yield f"{format_duration(left[first])} until ttl"
        return
    for name, seconds in shown.items():
        yield f"{format_duration(seconds)} until ttl of {name}"


def _warnings(status: Status) -> Iterator[str]:
    lost_kinds = (DriftKind.GONE, DriftKind.STOPPED, DriftKind.STOPPING)
    lost = [item for item in status.drift if item.kind in lost_kinds]
    if lost:
        yield (
            f"Drift: {'; '.join(_end_texts(lost))}. "
            f"See `planapply logs {lost[0].name if len(lost) == 1 else 'NODE'}`; run `planapply plan` to see "
            "what an apply would do."
        )
    changed_kinds = (DriftKind.ADDRESS, DriftKind.CHANGED, DriftKind.DELETED)
    for item in status.drift:
        if item.kind in changed_kinds:
            yield f"Drift: {item.name} {drift_text([item])}. The next `planapply apply` fixes this."
        elif item.kind is DriftKind.REGROUPED:
            yield (
                f"Drift: {item.name} {drift_text([item])}. An apply does not move a VM: set its groups with "
                f"the cloud's own tools, or run `planapply apply --replace {item.name}`."
            )
    strays = [item.name for item in status.drift if item.kind is DriftKind.STRAY]
    adopted = [item.vm for item in status.drift if item.kind is DriftKind.ADOPTED and item.vm]
    if adopted or strays:
        yield (
            f"Drift: VMs that are not in the state: {', '.join(sorted([*adopted, *strays]))}. The next "
            "`planapply apply` adopts them, and terminates duplicates."
        )
    unknown = [item.name for item in status.drift if item.kind is DriftKind.UNKNOWN]
    if unknown:
        yield (
            f"Drift: VMs with this cluster's tags that planapply did not launch: {', '.join(unknown)}. "
            "They are not adopted; `planapply apply --terminate-unknown` terminates them."
        )
    for problem in status.problems:
        yield f"{problem.summary[:1].upper()}{problem.summary[1:]}. {problem.detail}"
    if status.unknown_workers:
        yield f"Workers that are no node of this state: {_list_workers(status.unknown_workers)}"
    if status.lock:
        yield f"The state is locked: {status.lock}"


def _end_texts(lost: Sequence[DriftItem]) -> Iterator[str]:
    """Yield which nodes have ended, for each reason; those without a known one last."""
    names: dict[EndReason, list[str]] = {}
    for item in lost:
        names.setdefault(item.ended or EndReason.UNKNOWN, []).append(item.name)
    unknown = names.pop(EndReason.UNKNOWN, [])
    for reason, nodes in names.items():
        yield f"{format_names(nodes)} {'has' if len(nodes) == 1 else 'have'} ended ({end_text(reason)})"
    if unknown:
        has, themselves = ("has", "itself") if len(unknown) == 1 else ("have", "themselves")
        yield (
            f"{format_names(unknown)} {has} terminated, by {themselves} (ttl, idle_timeout, or a failure) or "
            "outside of planapply"
        )


def _list_workers(names: Sequence[str]) -> str:
    """Return the first names, shortened: they are the scheduler's, which may send any."""
    shown = [elide(name, _MAX_NAME_WIDTH) for name in names[:_MAX_UNKNOWN_WORKERS]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f", and {more:,} more" if more else "")
