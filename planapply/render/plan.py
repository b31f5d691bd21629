"""A plan as people read it: one line a run of equal nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planapply.model.names import SCHEDULER, split_name, to_ranges
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Change, Cost, Elastic, FieldChange, Plan
from planapply.render.text import BLANK, Line, Span, columns, elide, line, wrap
from planapply.render.values import items, place, price_notes, size, usd, value

STYLES = {
    Action.CREATE: "green",
    Action.UPDATE: "yellow",
    Action.REPLACE: "yellow",
    Action.DESTROY: "red",
}
_OBVIOUS = frozenset({"not there yet", "destroy was asked for"})
"""Reasons that the symbol tells already."""
_INDENT = " " * 8
_MOST_ITEMS = 5
"""Lines of what one setting loses, and of what it wins."""


@dataclass
class Run:
    """Changes that read alike, of nodes whose numbers follow each other."""

    changes: list[Change]
    step: int = 0
    """1 where the numbers rise, -1 where they fall; 0 while there is one change."""

    def takes(self, change: Change) -> bool:
        """Add the change if it continues the run."""
        last = self.changes[-1]
        (group, before), (other, index) = split_name(last.name), split_name(change.name)
        step = index - before
        if (
            group != other
            or abs(step) != 1
            or self.step not in (0, step)
            or not _alike(last, change)
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
        if first.fields or first.reason in _OBVIOUS:
            return ""
        if len(self.changes) == 1:
            return first.reason
        return _shared_reason(first).replace("its VM is", "their VMs are")


def plan_lines(plan: Plan, width: int = 80, *, drift: bool = True) -> list[Line]:
    """The whole plan, without its diagnostics; `width` in columns.

    `drift` says of a `--refresh-only` plan whether there is anything to record.
    """
    if plan.refresh_only and drift:
        said = "What has changed in the cloud is recorded; no VM is launched or ended."
        return [*_prose(f"planapply will update the state of {_whose(plan)}. {said}", width)]
    if not plan.changes:
        return [line(("No changes.", "bold green"), f" {_unchanged(plan)}"), *_foot(plan, width)]
    all_runs = runs(plan.changes)
    rows = columns(
        [[run.name, run.count, "  ".join(_described(run.changes[0], plan))] for run in all_runs]
    )
    # A field's values stand below what describes its node, where its name leaves the room.
    column = 6 + max((sum(map(len, row[:-1])) for row in rows), default=0)
    verb = "destroy" if _ends_all(plan) else "change"
    lines = [line(f"planapply will {verb} {_whose(plan)}:"), BLANK]
    for run, row in zip(all_runs, rows, strict=True):
        action = run.changes[0].action
        lines.append(
            line("  ", (f"{action.symbol:<3}", STYLES[action]), f" {''.join(row).rstrip()}")
        )
        lines += _fields(run.changes[0].fields, column - len(_INDENT) - 3, width)
        if run.reason:
            lines += [line(text) for text in wrap(f"({run.reason})", width, _INDENT)]
    counts = plan.summary
    summary = (
        f" {counts['add']} to add, {counts['change']} to change, {counts['destroy']} to destroy."
    )
    return [*lines, BLANK, line(("Plan:", "bold"), summary), *_foot(plan, width)]


def runs(changes: Sequence[Change]) -> list[Run]:
    """The changes in their order, with those that read alike together."""
    found: list[Run] = []
    for change in changes:
        if not (found and found[-1].takes(change)):
            found.append(Run([change]))
    return found


def _alike(one: Change, other: Change) -> bool:
    keys = ("action", "kind", "before", "after", "fields")
    return _shared_reason(one) == _shared_reason(other) and all(
        getattr(one, key) == getattr(other, key) for key in keys
    )


def _shared_reason(change: Change) -> str:
    return change.reason.replace(f" {change.vm}", "") if change.vm else change.reason


def _whose(plan: Plan) -> str:
    where = place(plan.provider, {**plan.settings, **plan.cloud})
    return f'cluster "{plan.cluster}" ({where})'


def _ends_all(plan: Plan) -> bool:
    return plan.spec_digest is None and any(change.name == SCHEDULER for change in plan.changes)


def _unchanged(plan: Plan) -> str:
    if plan.refresh_only:
        return "The state agrees with what exists."
    if plan.spec_digest is None:
        return "There is nothing to destroy."
    return f'Cluster "{plan.cluster}" is as its spec says.'


def _described(change: Change, plan: Plan) -> Iterator[str]:
    """What the node is, or was: the little that tells groups apart."""
    if change.kind == "resource":
        yield "supporting resource"
        return
    config = plan.configs.get(change.after or change.before or "")
    if config is not None:
        yield from described(config)


def described(config: NodeConfig) -> Iterator[str]:
    """Size or requirements, spot, processes."""
    if config.size:
        yield config.size[0]
    elif config.requirements is not None:
        wanted = config.requirements
        parts = (
            f"{wanted.cpus} cpu{'s' * (wanted.cpus > 1)}" if wanted.cpus else "",
            size(wanted.memory) if wanted.memory else "",
            f"{wanted.gpus} gpu{'s' * (wanted.gpus > 1)}" if wanted.gpus else "",
            wanted.arch or "",
        )
        yield ", ".join(part for part in parts if part)
    if config.spot:
        yield "spot"
    if config.processes > 1:
        yield f"{config.processes} processes"


def _fields(fields: Sequence[FieldChange], least: int, width: int) -> Iterator[Line]:
    """Old and new value on the setting's line where they fit; `least` columns are for the path."""
    room = min(max(width, 60), 120) - len(_INDENT) - len("    ->    (forces replacement)")
    left = {field.path: room - sum(map(len, _values(field))) for field in fields}
    column = max([least, *(len(path) for path, room in left.items() if len(path) < room)])
    for field in fields:
        forces: tuple[str | Span, ...] = ()
        if field.forces_replacement:
            forces = ("   (", ("forces replacement", "red"), ")")
        if len(field.path) < left[field.path]:
            before, after = _values(field)
            path = field.path.ljust(min(column, left[field.path]))
            yield line(f"{_INDENT}{path}   ", before, (" -> ", "yellow"), after, *forces)
        else:
            yield line(f"{_INDENT}{field.path}", *forces)
            yield from _contrast(field, width)


def _values(field: FieldChange) -> tuple[str, str]:
    return value(field.before, field.path), value(field.after, field.path)


def _contrast(field: FieldChange, width: int) -> Iterator[Line]:
    """What a long value has lost and won."""
    before, after = items(field.before), items(field.after)
    lost = [text for text in before if text not in set(after)]
    won = [text for text in after if text not in set(before)]
    indent = f"{_INDENT}  "
    if not lost and not won:
        yield line(f"{indent}(the same in another order)")
    for symbol, style, texts in (("- ", "red", lost), ("+ ", "green", won)):
        for text in texts[:_MOST_ITEMS]:
            yield line(indent, (symbol, style), elide(text, max(width, 40) - len(indent) - 2))
        if len(texts) > _MOST_ITEMS:
            yield line(indent, (symbol, style), f"… and {len(texts) - _MOST_ITEMS} more")


def _foot(plan: Plan, width: int) -> Iterator[Line]:
    if plan.cost is not None and (plan.cost.before, plan.cost.after) != (0.0, 0.0):
        yield line(("Cost:", "bold"), f" {cost_text(plan.cost)}")
    for name, group in plan.elastic.items():
        yield from _prose(_elastic_text(name, group), width)


def _elastic_text(name: str, group: Elastic) -> str:
    number = "no nodes" if not group.nodes else f"{group.nodes} node{'s' * (group.nodes > 1)}"
    return (
        f"Elastic: {name} has {number} (min {group.min}, max {group.max}); "
        "its size moves only under `scale` and `adapt`."
    )


def cost_text(cost: Cost) -> str:
    """USD an hour, before and after, and what is not known of it."""
    before = usd(cost.before, cost.unknown_before)
    after = usd(cost.after, cost.unknown)
    notes = price_notes(cost.source, {*cost.unknown_before, *cost.unknown})
    return (after if before == after else f"{before} -> {after}") + notes


def _prose(text: str, width: int) -> Iterator[Line]:
    return (line(part) for part in wrap(text, width))
