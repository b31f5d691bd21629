"""Secrets of the nodes that planapply reads when it launches: checks before a launch, and notes of a plan."""

import shlex
from collections.abc import Iterator

from planapply.fleet import ProviderClient, node_secrets, read_secrets, unset_variables
from planapply.model.diagnostics import Diagnostic, PlanapplyError, note
from planapply.model.names import SCHEDULER, format_names, split_name
from planapply.model.node import NodeConfig
from planapply.model.node_secrets import secret_digests
from planapply.model.plan import Action, Plan
from planapply.model.state import State
from planapply.ops.preflight import check_user_data_size


def check_secrets(plan: Plan, client: ProviderClient) -> None:
    """Raise PlanapplyError if a node of the plan cannot be launched for want of a secret, or for its size.

    A plan needs no secret, so only what carries it out calls this.
    """
    configs = _launched(plan)
    read_secrets(*configs)
    problems = [
        found
        for config in configs
        if (secrets := node_secrets(config))
        and (found := check_user_data_size(config, client.limits, secrets))
    ]
    if problems:
        raise PlanapplyError(diagnostics=tuple(problems))


def secret_notes(plan: Plan, state: State) -> Iterator[Diagnostic]:
    """Yield notes about secrets that have changed since nodes were launched, or that a launch would miss."""
    leaving = {change.name for change in plan.changes if change.action is not Action.UPDATE}
    changed: dict[str, list[str]] = {}
    for name, record in state.nodes.items():
        config = state.configs.get(record.config)
        if name in leaving or config is None or not record.secrets:
            continue
        if unset_variables([config]):
            continue
        try:
            digests = secret_digests(node_secrets(config), state.secret_salt)
        except PlanapplyError:
            continue
        for variable, digest in digests.items():
            if record.secrets.get(variable) != digest:
                changed.setdefault(variable, []).append(name)
    for variable, names in changed.items():
        workers = [name for name in names if name != SCHEDULER]
        again = format_names([n for n in workers if split_name(n)[0] == split_name(workers[0])[0]])
        command = f"planapply apply --replace {shlex.quote(again or SCHEDULER)}"
        yield note(
            f"the value of {variable} has changed since {format_names(names)} "
            f"{'was' if len(names) == 1 else 'were'} launched; `--replace` sends it",
            f"For example: `{command}`"
            + (
                ". Replacing the scheduler replaces every node."
                if len(workers) < len(names)
                else ""
            ),
        )
    if unset := unset_variables(_launched(plan)):
        verb = "is" if len(unset) == 1 else "are"
        yield note(
            f"environment variable{'' if len(unset) == 1 else 's'} {', '.join(unset)} {verb} not set here",
            "The plan does not need it, but a launch does: set it where you apply."
            if len(unset) == 1
            else "The plan does not need them, but a launch does: set them where you apply.",
        )


def _launched(plan: Plan) -> list[NodeConfig]:
    """Return the configurations of the nodes that the plan launches."""
    digests = {
        change.after
        for change in plan.changes
        if change.after is not None and change.action in (Action.CREATE, Action.REPLACE)
    }
    return [plan.configs[digest] for digest in sorted(digests) if digest in plan.configs]
