"""planapply scale: elastic groups get another number of nodes, and nothing else changes."""

import json
from pathlib import Path

import pytest
from cli.commands import SPEC, Run, events
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.store import open_store

ELASTIC = (
    SPEC.replace("count = 3", "min = 1\nmax = 6") + '\n[workers.fixed]\ncount = 1\nsize = "small"\n'
)


@pytest.fixture
def applied(run: Run, cloud: FakeCloud, folder: Path) -> FakeCloud:
    """A cluster with the elastic group cpu, and the group fixed with one node."""
    (folder / "planapply.toml").write_text(ELASTIC)
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    return cloud


def nodes() -> list[str]:
    state = open_store("planapply.state.json").read()
    assert state is not None
    return sorted(state.nodes)


def change_statuses(**statuses: str) -> None:
    store = open_store("planapply.state.json")
    state = store.read()
    assert state is not None
    for name, status in statuses.items():
        record = state.nodes[name.replace("_", "-")]
        state.nodes[name.replace("_", "-")] = record.model_copy(update={"status": status})
    store.write(state)


def test_grows_and_shrinks(run: Run, applied: FakeCloud) -> None:
    result = run("scale", "cpu=4", "--auto-approve", "--no-wait")
    assert (result.code, result.out) == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   cpu-[1-3]   (3)   large
        (1 -> 4 nodes)

Plan: 3 to add, 0 to change, 0 to destroy.
Cost: 1.70 USD/h -> 6.20 USD/h (list prices of 2025-03-02)
Elastic: cpu will have 4 nodes (min 1, max 6).

Scale complete: 3 added, 0 changed, 0 destroyed.

scheduler_address = tcp://127.0.0.1:1
"""),
    )
    assert nodes() == ["cpu-0", "cpu-1", "cpu-2", "cpu-3", "fixed-0", "scheduler"]
    assert run("scale", "cpu=4", "--no-wait") == (
        0,
        snapshot("""\
No changes. The groups have these numbers of nodes.
Cost: 6.20 USD/h (list prices of 2025-03-02)
Elastic: cpu has 4 nodes (min 1, max 6).

scheduler_address = tcp://127.0.0.1:1
"""),
        "",
    )
    # A node that has not joined leaves first, then the one with the highest index.
    change_statuses(cpu_0="joined", cpu_2="joined", cpu_3="joined")
    result = run("scale", "cpu=2", "--auto-approve", "--no-wait", "--no-retire")
    assert (result.code, result.out) == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -   cpu-1   large
        (4 -> 2 nodes)
  -   cpu-3   large
        (4 -> 2 nodes)

Plan: 0 to add, 0 to change, 2 to destroy.
Cost: 6.20 USD/h -> 3.20 USD/h (list prices of 2025-03-02)
Elastic: cpu will have 2 nodes (min 1, max 6).

Scale complete: 0 added, 0 changed, 2 destroyed.

scheduler_address = tcp://127.0.0.1:1
"""),
    )
    assert nodes() == ["cpu-0", "cpu-2", "fixed-0", "scheduler"]
    assert run("scale", "cpu=3", "--auto-approve", "--no-wait").code == 0
    assert nodes() == ["cpu-0", "cpu-2", "cpu-4", "fixed-0", "scheduler"]  # no index is used twice
    assert run("plan").out.startswith("No changes.")


def test_counts_only_nodes_whose_vm_exists(run: Run, applied: FakeCloud) -> None:
    run("scale", "cpu=3", "--auto-approve", "--no-wait")
    state = open_store("planapply.state.json").read()
    assert state is not None
    applied.end_vm(state.nodes["cpu-1"].vm)
    result = run("scale", "cpu=3", "--auto-approve", "--no-wait")
    assert (result.code, result.out) == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -   cpu-1   large
        (VM i-0003 is gone)
  +   cpu-3   large
        (2 -> 3 nodes)

Plan: 1 to add, 0 to change, 1 to destroy.
Cost: 3.20 USD/h -> 4.70 USD/h (list prices of 2025-03-02)
Elastic: cpu will have 3 nodes (min 1, max 6).

Scale complete: 1 added, 0 changed, 1 destroyed.

scheduler_address = tcp://127.0.0.1:1
"""),
    )
    assert nodes() == ["cpu-0", "cpu-2", "cpu-3", "fixed-0", "scheduler"]


def test_edited_spec_counts_for_nothing(run: Run, applied: FakeCloud, folder: Path) -> None:
    (folder / "planapply.toml").write_text(
        ELASTIC.replace("max = 6", "max = 1").replace('"large"', '"small"')
    )
    assert run("scale", "cpu=2", "--auto-approve", "--no-wait").code == 0
    assert sorted(vm.size or "" for vm in applied.live_vms()) == [
        "large",
        "large",
        "small",
        "small",
    ]
    (folder / "planapply.toml").unlink()
    arguments = ("--state", "planapply.state.json", "--auto-approve", "--no-wait")
    assert run("scale", "cpu=3", *arguments).code == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["cpu"],
            snapshot("""\
Error: cannot scale: 'cpu' is not GROUP=N
  Write the name of a group and its number of nodes, such as `planapply scale cpu=4`.
"""),
        ),
        (
            ["cpu=two"],
            snapshot("""\
Error: cannot scale 'cpu' to 'two' nodes
  Write a whole number of at least 0.
"""),
        ),
        (
            ["cpu=-1"],
            snapshot("""\
Error: cannot scale 'cpu' to '-1' nodes
  Write a whole number of at least 0.
"""),
        ),
        (
            ["cpu=2", "cpu=3"],
            snapshot("""\
Error: cannot scale 'cpu': the group is given twice
  Name each group once.
"""),
        ),
        (
            ["gpu=1"],
            snapshot("""\
Error: cannot scale 'gpu': there is no such group
  Groups of the spec that was applied last: cpu, fixed.
"""),
        ),
        (
            ["fixed=2"],
            snapshot("""\
Error: cannot scale 'fixed': the group has a `count`
  Change `count` under [workers.fixed] and run `planapply apply`; or give the group a `min` and
  `max` in place of `count`.
"""),
        ),
        (
            ["cpu=0"],
            snapshot("""\
Error: cannot scale 'cpu' to 0 nodes: the spec sets min = 1, max = 6
  Choose a number in this range; or change it under [workers.cpu], run `planapply apply`, and scale
  again.
"""),
        ),
        (
            ["cpu=7"],
            snapshot("""\
Error: cannot scale 'cpu' to 7 nodes: the spec sets min = 1, max = 6
  Choose a number in this range; or change it under [workers.cpu], run `planapply apply`, and scale
  again.
"""),
        ),
        (
            [],
            snapshot("""\
Error: missing argument 'GROUP=N'
  Run `planapply scale --help`.
"""),
        ),
    ],
)
def test_refuses(run: Run, applied: FakeCloud, arguments: list[str], error: str) -> None:
    assert run("scale", *arguments, "--auto-approve") == (1, "", error)
    assert nodes() == ["cpu-0", "fixed-0", "scheduler"]


def test_refuses_what_exceeds_max_cost(run: Run, cloud: FakeCloud, folder: Path) -> None:
    spec = ELASTIC.replace("[provider]", "max_cost = 4.0\n[provider]", 1)
    (folder / "planapply.toml").write_text(spec)
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert run("scale", "cpu=3", "--auto-approve") == (
        1,
        "",
        snapshot("""\
Error: the cluster would cost 4.70 USD/h, more than `max_cost` (4.00)
  Make the cluster smaller, or raise `max_cost` under [cluster].
"""),
    )
    assert run("scale", "cpu=2", "--auto-approve", "--no-wait").code == 0


def test_cluster_that_cannot_be_scaled(run: Run, applied: FakeCloud) -> None:
    store = open_store("planapply.state.json")
    state = store.read()
    assert state is not None
    store.write(state.model_copy(update={"spec": None}))
    assert run("scale", "cpu=2", "--auto-approve") == (
        1,
        "",
        snapshot("""\
Error: cannot scale cluster 'demo': the state does not record the spec that was applied last
  Run `planapply apply`, which records it.
"""),
    )
    assert run("destroy", "--auto-approve").code == 0
    assert run("scale", "cpu=2", "--auto-approve") == (
        1,
        "",
        snapshot("""\
Error: cannot scale cluster 'demo': it has no scheduler
  Run `planapply apply` to create it.
"""),
    )


def test_asks_on_a_terminal_only(run: Run, applied: FakeCloud) -> None:
    result = run("scale", "cpu=2", "-f", "./planapply.toml")
    assert (result.code, result.out, result.err) == (
        1,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   cpu-1   large
        (1 -> 2 nodes)

Plan: 1 to add, 0 to change, 0 to destroy.
Cost: 1.70 USD/h -> 3.20 USD/h (list prices of 2025-03-02)
Elastic: cpu will have 2 nodes (min 1, max 6).
"""),
        snapshot("""\
Error: cannot ask for approval: stdin is not a terminal
  Pass --auto-approve.
"""),
    )


def test_json(run: Run, applied: FakeCloud) -> None:
    result = run("scale", "cpu=2", "--auto-approve", "--no-wait", "--json")
    assert result.code == 0
    assert [event["event"] for event in events(result.out)] == snapshot(
        ["launching", "launched", "finished"]
    )
    [failed] = events(run("scale", "cpu", "--json").out)
    assert (failed["event"], failed["data"]["outcome"]) == ("finished", "failed")
    usage = json.loads(run("scale", "--json").out)
    assert usage["event"] == "finished"
