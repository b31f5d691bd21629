"""The texts below the changes of a plan, each with its title: settings, cost, access, elastic groups."""

from collections import Counter
from collections.abc import Iterator, Mapping

from planapply.model.names import split_name
from planapply.model.plan import Action, Cost, ElasticGroup, FieldChange, Mode, Plan
from planapply.render.access import format_access
from planapply.render.field_change import format_values, redact_field
from planapply.render.text import make_printable
from planapply.render.values import format_price_notes, format_usd, format_value

_MAX_EDIT = 60
"""Maximum length of the values of an edited setting, old and new; longer ones are not shown."""


def footer_texts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield all texts, in the order in which they are shown."""
    if waves := waves_text(plan):
        yield "Waves", waves
    yield from settings_texts(plan)
    if cost := cost_text(plan):
        yield "Cost", cost
    yield from other_texts(plan)


def settings_texts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the changed settings that an apply only records."""
    yield from recorded_texts(plan)
    for edit in plan.edited:
        yield "Edited since the last apply", _one_line(_format_edit(edit))


def cost_text(plan: Plan) -> str:
    """Return the cost per hour before and after; empty if there is none."""
    if plan.cost is None or (plan.cost.before, plan.cost.after) == (0.0, 0.0):
        return ""
    return format_cost(plan.cost)


def other_texts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what the cost does not count, the access to the scheduler, and the elastic groups."""
    if cost_text(plan) and plan.cost is not None and plan.cost.not_counted:
        yield "Not counted", _one_line(f"{', '.join(plan.cost.not_counted)}.")
    for access in format_access(plan.resources or {}):
        yield "Access", _one_line(access)
    for name, group in plan.elastic.items():
        yield "Elastic", _one_line(_elastic_text(name, group, plan))


def recorded_texts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the changed settings of the whole cluster."""
    for field in map(redact_field, plan.recorded):
        before, after = format_values(field)
        change = "changed" if before == after else f"{before} -> {after}"
        yield "Settings", _one_line(f"{field.path} {change} (recorded by apply)")


def _one_line(text: str) -> str:
    """Return a text whose names, from a state or a plan file of others, make no lines of their own."""
    return make_printable(text, is_line=True)


def _format_edit(edit: FieldChange) -> str:
    field = redact_field(edit)
    key = edit.path.rpartition(".")[2]  # the units of settings are known by their keys
    before, after = format_value(field.before, key), format_value(field.after, key)
    is_table = isinstance(edit.before or edit.after, Mapping)
    if field.before == field.after or is_table or len(before) + len(after) > _MAX_EDIT:
        verb = "added" if edit.before is None else "removed" if edit.after is None else "changed"
        return f"{edit.path} {verb}"
    return f"{edit.path} {before} -> {after}"


def waves_text(plan: Plan) -> str:
    """Return in how many waves nodes are replaced; empty for one wave."""
    if len(plan.waves) < 2:
        return ""
    replaced = {change.name for change in plan.changes if change.action is Action.REPLACE}
    sizes: dict[str, int] = {}
    for wave in plan.waves:
        groups = Counter(split_name(name)[0] for name in wave if name in replaced)
        sizes |= {group: max(sizes.get(group, 0), size) for group, size in groups.items()}
    parts = [f"{group}: {n} node{'s' * (n > 1)} at a time" for group, n in sizes.items()]
    if replaced.isdisjoint(plan.waves[0]):
        parts.insert(0, "new nodes first")
    return f"{len(plan.waves)} ({', '.join(parts)})"


def _changes_number(group: str, plan: Plan) -> bool:
    """Return whether an apply changes how many nodes a group has."""
    return any(
        change.kind == "node"
        and split_name(change.name)[0] == group
        and change.action in (Action.CREATE, Action.DESTROY)
        for change in plan.changes
    )


def _elastic_text(name: str, group: ElasticGroup, plan: Plan) -> str:
    is_changing = _changes_number(name, plan)
    number = "no nodes" if not group.nodes else f"{group.nodes} node{'s' * (group.nodes > 1)}"
    text = f"{name} {'will have' if is_changing else 'has'} {number} (min {group.min}, max {group.max})"
    if plan.mode is not Mode.SCALE:
        text += "; its size changes only through `scale` and `adapt`"
    return f"{text}."


def format_cost(cost: Cost) -> str:
    """Return the cost per hour before and after, and the unknown prices."""
    before = format_usd(cost.before, cost.unknown_before)
    after = format_usd(cost.after, cost.unknown)
    notes = format_price_notes(cost.source, {*cost.unknown_before, *cost.unknown})
    highest = "" if cost.highest is None else f", at most {cost.highest:.2f} USD/h"
    return (after if before == after else f"{before} -> {after}") + highest + notes
