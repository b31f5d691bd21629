"""The line of each event, and the live display."""

from inline_snapshot import snapshot

from planapply.model.event import Event
from planapply.model.plan import Action, Change, ChangeReason, Plan
from planapply.render.progress import Progress, event_text
from planapply.render.text import to_plain_text


def plan(**actions: list[str]) -> Plan:
    return Plan(
        cluster="c",
        provider="local",
        lineage=None,
        serial=0,
        spec_digest="d",
        changes=tuple(
            Change(name=name, action=Action(action), reason=ChangeReason.NEW)
            for action, names in actions.items()
            for name in names
        ),
    )


def names(group: str, number: int) -> list[str]:
    return [f"{group}-{i}" for i in range(number)]


def test_events_as_lines() -> None:
    events = [
        Event(event="launching", names=("scheduler",), message="m7i.large, eu-west-1a"),
        Event(event="launched", names=("cpu-1", "cpu-0", "cpu-2")),
        Event(event="joined", names=("cpu-0", "cpu-2")),
        Event(event="failed", names=("cpu-1",), message="terminated before it joined"),
        Event(event="retiring", names=("cpu-0",)),
        Event(event="terminating", names=tuple(f"cpu-{i}" for i in range(0, 400, 2))),
        Event(event="terminated", names=("cpu-0",)),
        Event(event="updated", names=("cpu-0",)),
        Event(event="adopted", names=("cpu-0",)),
        Event(event="waiting", message="for the state's lock: me@host"),
        Event(event="waiting", names=("cpu-0",), message="for the result of an earlier request"),
        Event(event="resource", names=("security-group",), message="created security_group sg-1"),
        Event(event="note", message="took over the lock of a dead process"),
    ]
    assert "".join(f"{event_text(event)}\n" for event in events) == snapshot("""\
scheduler: launching (m7i.large, eu-west-1a)
cpu-[0-2]: launched
cpu-0, cpu-2: joined
cpu-1: failed (terminated before it joined)
cpu-0: retiring
cpu-0, cpu-2, cpu-4, cpu-6, cpu-8, cpu-10, cpu-12, cpu-14, … (200 nodes): terminating
cpu-0: terminated
cpu-0: updated
cpu-0: adopted
waiting for the state's lock: me@host
cpu-0: waiting for the result of an earlier request
security-group: created security_group sg-1
took over the lock of a dead process
""")


def shown(progress: Progress, now: float, width: int = 80, height: int = 24) -> str:
    return to_plain_text(progress.lines(now, width, height))


def test_one_line_per_node() -> None:
    progress = Progress()
    progress.update(Event(event="waiting", message="for the state's lock: me@host"), 0.0)
    assert shown(progress, 5.0) == snapshot("  0:00  waiting for the state's lock: me@host\n")

    progress.expect(plan(create=["scheduler", "cpu-0", "cpu-1"], destroy=["cpu-2"]), 10.0)
    progress.update(Event(event="retiring", names=("cpu-2",)), 10.0)
    assert shown(progress, 11.0) == snapshot("""\
  scheduler
  cpu-0
  cpu-1
  cpu-2       0:01   retiring
  0:01  waiting for cpu-2 to move results to other workers
""")

    progress.update(Event(event="terminating", names=("cpu-2",)), 12.0)
    progress.update(Event(event="terminated", names=("cpu-2",)), 14.0)
    progress.update(Event(event="launching", names=("scheduler",), message="m7i.large"), 14.0)
    assert shown(progress, 15.0) == snapshot("""\
  scheduler   0:01   launching (m7i.large)
  cpu-0
  cpu-1
  cpu-2       0:04   terminated
  0:05  waiting for the cloud to launch scheduler
""")

    progress.update(Event(event="launched", names=("scheduler",)), 15.0)
    progress.update(Event(event="launching", names=("cpu-0", "cpu-1")), 15.0)
    progress.update(Event(event="launched", names=("cpu-0", "cpu-1")), 16.0)
    progress.update(Event(event="joined", names=("scheduler", "cpu-0")), 80.0)
    progress.update(
        Event(event="failed", names=("cpu-1",), message="terminated before it joined"), 81.0
    )
    assert shown(progress, 90.0) == snapshot("""\
  scheduler   1:06   joined
  cpu-0       1:05   joined
  cpu-1       1:06   failed (terminated before it joined)
  cpu-2       0:04   terminated
  1:20
""")
    assert shown(progress, 90.0, width=40) == snapshot("""\
  scheduler   1:06   joined
  cpu-0       1:05   joined
  cpu-1       1:06   failed (terminated…
  cpu-2       0:04   terminated
  1:20
""")
    assert progress.counts() == {"added": 3, "changed": 0, "destroyed": 1}


def test_many_nodes_are_shown_as_bars() -> None:
    progress = Progress()
    cpu, gpu = names("cpu", 40), names("gpu", 10)
    progress.expect(plan(create=cpu, replace=gpu, destroy=["old-0"]), 0.0)
    progress.update(Event(event="terminated", names=(*gpu, "old-0")), 1.0)
    progress.update(Event(event="launched", names=(*cpu, *gpu)), 2.0)
    progress.update(Event(event="joined", names=tuple(cpu[:17])), 3.0)
    progress.update(Event(event="failed", names=("cpu-20",), message="no capacity"), 3.0)
    assert shown(progress, 62.0) == snapshot("""\
  terminated  ━━━━━━━━━━━━━━━━━━━━━━━━  11/11
  launched    ━━━━━━━━━━━━━━━━━━━━━━━━  50/50
  joined      ━━━━━━━━────────────────  17/50
  failed      cpu-20
  1:02  waiting for cpu-[17-19], cpu-[21-39], gpu-[0-9] to join
""")
    assert shown(progress, 3700.0).splitlines()[-1] == snapshot(
        "  1:01:40  waiting for cpu-[17-19], cpu-[21-39], gpu-[0-9] to join"
    )


def test_supporting_resources_are_counted() -> None:
    progress = Progress()
    for action in (Action.CREATE, Action.UPDATE, Action.DESTROY, Action.DESTROY):
        progress.update(Event(event="resource", names=("group",), action=action), 0.0)
    progress.update(Event(event="note", names=("group",), message="created something"), 0.0)
    assert progress.counts() == {"added": 1, "changed": 0, "destroyed": 2}


def test_low_terminal_shows_bars() -> None:
    progress = Progress()
    progress.expect(plan(create=names("cpu", 5)), 0.0)
    assert len(progress.lines(0.0, 80, 7)) == 3
    assert len(progress.lines(0.0, 80, 8)) == 6


def test_without_waiting_launched_nodes_are_done() -> None:
    progress = Progress(wait=False)
    progress.expect(plan(create=["cpu-0"]), 0.0)
    progress.update(Event(event="launching", names=("cpu-0",)), 0.0)
    progress.update(Event(event="launched", names=("cpu-0",)), 2.0)
    assert shown(progress, 9.0) == snapshot("""\
  cpu-0   0:02   launched
  0:09
""")


def test_stopping_is_shown() -> None:
    progress = Progress()
    progress.expect(plan(create=["cpu-0"]), 0.0)
    progress.update(Event(event="launching", names=("cpu-0",)), 0.0)
    progress.stopping = True
    assert shown(progress, 9.0) == snapshot("""\
  cpu-0   0:09   launching
  0:09  stopping: sending no further requests, recording those that were sent
""")
