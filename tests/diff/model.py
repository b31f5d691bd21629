"""A simulated apply that changes only a state, without any cloud."""

from planapply.diff import RefreshResult
from planapply.model.node import VM
from planapply.model.plan import Action, Plan
from planapply.model.state import NodeRecord, Resource, State


def empty_state() -> State:
    return State(lineage="l", cluster="c", provider="p")


def simulate_apply(plan: Plan, refreshed: RefreshResult) -> State:
    """Return the state after an apply without failures."""
    state = refreshed.state.model_copy(deep=True)
    state.next_index = dict(plan.next_index)
    state.configs.update(plan.configs)
    state.intents = {}
    for change in plan.changes:
        if change.kind == "resource":
            state.resources.pop(change.name, None)
            if change.action is Action.CREATE:
                state.resources[change.name] = Resource(kind="group", id="g-1")
            continue
        old = state.nodes.pop(change.name, None)
        if change.after is not None:
            vm = (
                old.vm
                if old and change.action is Action.UPDATE
                else f"vm-{state.serial}-{change.name}"
            )
            config = plan.configs[change.after]
            state.nodes[change.name] = NodeRecord(
                vm=vm,
                config=change.after,
                batch="b",
                size=config.size[0] if config.size else None,
                tags=config.tags,
                launched_at=0.0,
            )
    state.serial += 1
    return state


def vms(state: State) -> list[VM]:
    """Return the VMs in a cloud that matches the state exactly."""
    return [
        VM(
            id=record.vm,
            tags={
                **record.tags,
                "Name": "x",
                "planapply:names": name,
                "planapply:batch": record.batch,
                "planapply:config": record.config,
            },
            launched_at=0.0,
        )
        for name, record in state.nodes.items()
    ]
