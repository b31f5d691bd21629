"""A group is replaced in waves: results stay in memory, and a wave that does not join is the last one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import read_runs, wait_until
from cluster.inprocess import HANDLE_ONLY, Cloud
from distributed import Client, Future
from inline_snapshot import snapshot

from planapply.fleet import Stopped
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.plan import Action, Plan
from planapply.ops.apply import ApplyOptions, Report, apply
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.workspace import Workspace
from planapply.render.failures import failure_diagnostics
from planapply.render.plan import plan_lines
from planapply.render.text import to_plain_text


def spec(count: int, threads: int = 1, *lines: str) -> str:
    text = SPEC.replace("min = 0\nmax = 8", "\n".join([f"count = {count}", *lines]))
    return text.replace("nthreads = 1", f"nthreads = {threads}")


def run(workspace: Workspace, on_event: Callable[[Event], None] = lambda event: None) -> Report:
    return apply(workspace, lambda plan: True, on_event=on_event)


def hold(client: Client, log: Path, nodes: int, results: int) -> list[Future]:
    """Compute results that each of the nodes holds some of; log each run of a task."""

    def compute(number: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number

    futures = [
        client.submit(
            compute, node * results + i, workers=[f"cpu-{node}"], pure=False, key=f"{node}-{i}"
        )
        for node in range(nodes)
        for i in range(results)
    ]
    assert client.gather(futures) == [*range(nodes * results)]
    return futures


def shown(made: Plan) -> str:
    return to_plain_text(plan_lines(made))


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Callable[[], Client]]:
    """A function that connects to the cluster; the clients are closed at the end."""
    clients: list[Client] = []

    def connect() -> Client:
        clients.append(Client(cloud.scheduler.address))
        return clients[-1]

    yield connect
    for found in clients:
        found.close()


Connect = Callable[[], Client]


def test_results_of_six_nodes_survive_the_replacement_of_all(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path, client: Connect
) -> None:
    applied(spec(6))
    log = tmp_path / "runs"
    futures = hold(connection := client(), log, 6, 10)
    before = {vm.id for vm in cloud.vms.values()}
    events: list[Event] = []
    report = run(workspace(spec(6, 2)), events.append)
    assert not report.failures
    assert [len(wave) for wave in report.plan.waves] == [2, 2, 2]
    assert len(before & cloud.vms.keys()) == 1  # the scheduler
    assert connection.gather(futures) == [*range(60)]
    assert read_runs(log) == [*range(60)]
    order = [name for event in events if event.event == "terminated" for name in event.names]
    assert sorted(order[:2]) == ["cpu-0", "cpu-1"]
    assert sorted(order[2:4]) == ["cpu-2", "cpu-3"]
    notes = [(event.names, event.message) for event in events if event.event == "note"]
    assert notes == [
        (("cpu-0", "cpu-1"), "wave 1 of 3"),
        (("cpu-2", "cpu-3"), "wave 2 of 3"),
        (("cpu-4", "cpu-5"), "wave 3 of 3"),
    ]
    # Each wave begins when the previous one has joined.
    times = {(e.event, name): i for i, e in enumerate(events) for name in e.names}
    assert times["joined", "cpu-0"] < times["terminating", "cpu-2"] < times["joined", "cpu-2"]
    assert times["joined", "cpu-2"] < times["terminating", "cpu-4"]
    assert not plan(workspace(spec(6, 2))).plan.changes


def test_group_of_one_gives_its_results_to_the_new_node(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path, client: Connect
) -> None:
    applied(spec(1))
    futures = hold(connection := client(), tmp_path / "runs", 1, 3)
    made = plan(workspace(spec(2, 2))).plan
    assert made.diagnostics == ()
    assert shown(made) == snapshot("""\
planapply will change cluster "zoo" (inprocess):

  -/+ cpu-0
        options.nthreads   1 -> 2   (forces replacement)
  +   cpu-1

Plan: 2 to add, 0 to change, 1 to destroy.
Waves: 2 (new nodes first, cpu: 1 node at a time)
""")
    assert not run(workspace(spec(2, 2))).failures
    assert connection.gather(futures) == [0, 1, 2]
    assert read_runs(tmp_path / "runs") == [0, 1, 2]


ONE = ("max_unavailable = 1",)


def broken(count: int) -> str:
    """Return a spec whose nodes never join."""
    text = spec(count, 1, *ONE).replace('"distributed.Worker"', f'"{HANDLE_ONLY}"')
    return text.replace("[cluster]", '[cluster]\njoin_timeout = "1 s"')


def errors(report: Report) -> str:
    return "\n".join(str(diagnostic) for diagnostic in failure_diagnostics(report.failures))


def test_wave_that_does_not_join_is_the_last_one(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path, client: Connect
) -> None:
    applied(spec(4, 1, *ONE))
    futures = hold(connection := client(), tmp_path / "runs", 4, 2)
    kept = {cloud.vm(f"cpu-{i}").id for i in (1, 2, 3)}
    report = run(workspace(broken(4)))
    assert errors(report) == snapshot("""\
cpu-0 did not join within 1 s
cpu-[1-3]: not replaced: the previous wave is incomplete
These VMs keep running with their earlier configuration. Fix the problem, and run the command again to continue; or restore the earlier spec and apply it to go back.\
""")
    assert {cloud.vm(f"cpu-{i}").id for i in (1, 2, 3)} == kept
    # The next apply waits for the same wave, and takes no other node away.
    again = run(workspace(broken(4)))
    assert {*again.failures} == {"cpu-0", "cpu-1", "cpu-2", "cpu-3"}
    assert {cloud.vm(f"cpu-{i}").id for i in (1, 2, 3)} == kept
    # With the earlier spec, only the node that has not joined is replaced.
    back = run(workspace(spec(4, 1, *ONE)))
    assert [change.name for change in back.plan.changes] == ["cpu-0"]
    assert not back.failures
    assert connection.gather(futures) == [*range(8)]
    assert read_runs(tmp_path / "runs") == [*range(8)]


def test_nodes_that_leave_and_new_ones_do_not_wait_for_a_broken_wave(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied(spec(4, 1, *ONE))
    assert run(workspace(broken(4))).failures
    kept = cloud.vm("cpu-1").id
    cloud.remove_vm("cpu-2")
    report = run(workspace(broken(3)))
    assert {*report.failures} == {"cpu-0", "cpu-1", "cpu-2"}
    assert cloud.names() == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
    assert cloud.vm("cpu-1").id == kept


def test_stop_between_waves_can_be_continued(
    cloud: Cloud, applied: Open, workspace: Open, tmp_path: Path, client: Connect
) -> None:
    applied(spec(4, 1, *ONE))
    futures = hold(connection := client(), tmp_path / "runs", 4, 2)
    stopped = workspace(spec(4, 2, *ONE))

    def stop(event: Event) -> None:
        if event.event == "joined" and event.names == ("cpu-1",):
            stopped.clock.stop()  # type: ignore[attr-defined]

    with pytest.raises(Stopped):
        run(stopped, stop)
    made = plan(workspace(spec(4, 2, *ONE))).plan
    assert made.waves == (("cpu-2",), ("cpu-3",))
    back = plan(workspace(spec(4, 1, *ONE))).plan
    assert back.waves == (("cpu-0",), ("cpu-1",))
    assert not run(workspace(spec(4, 2, *ONE))).failures
    assert cloud.launched_names.count("cpu-0") == 2
    assert connection.gather(futures) == [*range(8)]
    assert read_runs(tmp_path / "runs") == [*range(8)]


def test_nodes_that_cannot_be_retired_end_the_replacement(
    cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied(spec(3, 1, *ONE))
    cloud.scheduler.handlers["retire_workers"] = lambda **_: {}
    report = run(workspace(spec(3, 2, *ONE)))
    assert errors(report) == snapshot("""\
cpu-0: cannot retire the workers: no other worker can take over their results
These VMs keep running, so that no results are lost. Run the command again to retry, or pass --no-retire to terminate them without moving their results.
cpu-[1-2]: not replaced: the previous wave is incomplete
These VMs keep running with their earlier configuration. Fix the problem, and run the command again to continue; or restore the earlier spec and apply it to go back.\
""")
    assert len(cloud.launched_names) == 4


@pytest.mark.parametrize("problem", ["no wait", "no scheduler"])
def test_waves_that_nothing_can_observe_are_refused(
    problem: str, cloud: Cloud, applied: Open, workspace: Open
) -> None:
    applied(spec(4))
    if problem == "no scheduler":
        cloud.stop_servers("scheduler")
    options = ApplyOptions(wait=problem != "no wait", retire=False)
    calls = cloud.calls.copy()
    serial = workspace().read().serial

    def refuse(plan: Plan) -> bool:
        raise AssertionError("asks for approval of a plan that it refuses")

    with pytest.raises(PlanapplyError) as refused:
        apply(workspace(spec(4, 2)), refuse, apply_options=options)
    expected: dict[str, Any] = {
        "no wait": snapshot("""\
cannot replace cpu-[0-3] in 4 waves without waiting for them to join
Omit --no-wait (in Python, `wait=False`); or set `max_unavailable = "100%"` under [workers.cpu] to replace all nodes at once, without keeping the results in their memory.\
"""),
        "no scheduler": snapshot("""\
cannot replace cpu-[0-3] in 4 waves: the scheduler does not answer
planapply must see the nodes of each wave join. Check with `planapply status` that the scheduler is running, and run the command where its address can be reached; or set `max_unavailable = "100%"` under [workers.cpu] to replace all nodes at once, without keeping the results in their memory.\
"""),
    }
    assert str(refused.value) == expected[problem]
    assert workspace().read().serial == serial
    assert (cloud.calls - calls).keys() <= {"find"}
    if problem == "no scheduler":
        return  # no node could join
    at_once = spec(4, 2, 'max_unavailable = "100%"')
    report = apply(
        workspace(at_once), lambda plan: True, apply_options=ApplyOptions(wait=False, retire=False)
    )
    assert not report.failures
    assert len(cloud.launched_names) == 5 + 4
    # One wave need not be seen to join.
    replaced = PlanOptions(replace=("cpu-0",))
    assert not apply(workspace(spec(4, 2)), lambda plan: True, replaced, options).failures
    assert len(cloud.launched_names) == 5 + 4 + 1


def in_use(workspace: Workspace, **options: Any) -> list[str]:
    return [str(d) for d in plan(workspace, PlanOptions(**options)).plan.diagnostics]


def test_plan_says_what_is_in_use_and_will_be_lost(
    cloud: Cloud, applied: Open, workspace: Open, client: Connect
) -> None:
    applied(spec(1))
    first, _ = client(), client()
    held = first.submit(bytes, 1 << 20, pure=False)
    assert len(held.result()) == 1 << 20
    waiting = first.map(pow, [held] * 3, resources={"GPU": 1}, pure=False)
    wait_until(
        lambda: first.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 4
    )
    first.publish_dataset(held=held)  # for the scheduler, a client of its own
    lost = in_use(workspace(spec(1, 2)))
    assert lost == snapshot(
        [
            """\
in use: 2 clients, 3 tasks, 1.0 MiB of results that will be lost
To keep the results, save them first; or change the cluster in several steps in which some workers stay, with --target.\
"""
        ]
    )
    # A protected cluster refuses the plan, and says what it would have lost.
    protected = spec(1, 2).replace("[cluster]", "[cluster]\nprotect = true")
    with pytest.raises(PlanapplyError) as refused:
        plan(workspace(protected))
    assert str(refused.value) == snapshot("""\
cannot destroy or replace cpu-0: the cluster is protected
To remove the protection, set `protect = false` under [cluster] and apply that first.
in use: 2 clients, 3 tasks, 1.0 MiB of results that will be lost
To keep the results, save them first; or change the cluster in several steps in which some workers stay, with --target.\
""")
    assert refused.value.code == "protected"
    assert Action.REPLACE not in {c.action for c in plan(workspace(spec(1))).plan.changes}
    del held, waiting
