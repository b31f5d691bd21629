"""The hooks of `planapply watch --hooks FILE`: one event for each lost VM, change, and new problem."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli.commands import Run, events
from cli.test_watch import SPEC, Action, World
from inline_snapshot import snapshot

from planapply import followup
from planapply.cli.run_watch import WatchRun
from planapply.dask import observe
from planapply.ops.workspace import Hooks
from planapply.store import LockInfo

HOOKS = """\
[hooks]
on_node_lost = ["./hook.sh"]
on_applied = ["./hook.sh"]
on_failed = ["./hook.sh"]
"""


@pytest.fixture
def world(folder: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(folder)
    followup.reset()  # the options of a command that ran before in this process
    monkeypatch.setattr(observe, "observe_scheduler", world.observe)
    Path("hooks.toml").write_text(HOOKS)
    script = Path("hook.sh")
    script.write_text("#!/bin/sh\ncat >> log\necho got $PLANAPPLY_EVENT\nexit 1\n")
    script.chmod(0o755)
    world.apply()
    return world


def watch(world: World, *script: Action, once: bool = False, json: bool = False) -> int:
    """Watch with hooks, and with these actions between the rounds; return the exit code."""
    world.clock.script.extend(script)
    world.clock.is_scripted = True
    workspace = world.workspace()
    workspace.hooks = Hooks.of_file("hooks.toml")
    return WatchRun(workspace, 30.0, once, json).run()


def hook_events() -> list[tuple[Any, ...]]:
    """Return the event, the nodes, the counts, and the errors that each hook got."""
    log = Path("log")
    lines = log.read_text().splitlines() if log.exists() else []
    found = [json.loads(line) for line in lines]
    assert {document["command"] for document in found} <= {"watch"}
    keys = ("event", "nodes", "counts", "errors")
    return [tuple(document[key] for key in keys) for document in found]


def nothing() -> None:
    """Let a round find nothing new."""


def test_lost_node_is_reported_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    watch(world, nothing, world.end("cpu-1"), nothing, nothing)
    assert hook_events() == snapshot(
        [
            ("on_node_lost", ["cpu-1"], {"added": 0, "changed": 0, "destroyed": 0}, []),
            ("on_applied", ["cpu-1"], {"added": 1, "changed": 0, "destroyed": 0}, []),
        ]
    )
    captured = capsys.readouterr()
    assert captured.err == snapshot("""\
1970-01-12 13:47:40 UTC  hook on_node_lost: started
1970-01-12 13:47:40 UTC  hook on_node_lost: got on_node_lost
1970-01-12 13:47:40 UTC  hook on_node_lost: failed: it exited with code 1
1970-01-12 13:47:40 UTC  hook on_applied: started
1970-01-12 13:47:40 UTC  hook on_applied: got on_applied
1970-01-12 13:47:40 UTC  hook on_applied: failed: it exited with code 1
Watch stopped; the cluster is still running.
""")


def test_problem_is_reported_once_until_it_is_solved(world: World) -> None:
    def fill() -> None:
        world.cloud.capacity["m"] = 0
        world.end("cpu-1")()

    def empty() -> None:
        world.cloud.capacity["m"] = 1

    watch(world, fill, *[nothing] * 4, empty, *[nothing] * 8)
    assert hook_events() == snapshot(
        [
            ("on_node_lost", ["cpu-1"], {"added": 0, "changed": 0, "destroyed": 0}, []),
            (
                "on_failed",
                ["cpu-1"],
                {"added": 0, "changed": 0, "destroyed": 0},
                [
                    {
                        "node": "cpu-1",
                        "code": "cloud_capacity",
                        "summary": "cpu-1: 1 VMs too many: m",
                    }
                ],
            ),
            ("on_applied", ["cpu-1"], {"added": 1, "changed": 0, "destroyed": 0}, []),
        ]
    )


def test_end_of_the_watch_is_a_failure(world: World) -> None:
    with pytest.raises(Exception, match="lost the scheduler"):
        watch(world, world.end("scheduler"), *[nothing] * 40)
    assert [event[0] for event in hook_events()] == ["on_failed"]
    assert [error["code"] for error in hook_events()[0][3]] == ["scheduler_lost"]


def test_lock_of_another_process_is_no_failure(world: World) -> None:
    world.store.holder = LockInfo(
        id="ab12", who="ann@laptop", pid=7, purpose="apply", host="laptop"
    )
    world.end("cpu-1")()
    watch(world, nothing, nothing)
    assert hook_events() == []


def test_once_with_events(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.end("cpu-1")()
    assert watch(world, once=True, json=True) == 1  # the scheduler of this test lets no node join
    assert [event[0] for event in hook_events()] == ["on_node_lost", "on_failed"]
    found = events(capsys.readouterr().out)
    assert [e["data"]["status"] for e in found if e["event"] == "hook"] == [
        "started",
        "output",
        "failed",
    ] * 2
    assert found[-1]["data"]["outcome"] == "incomplete"


def test_recorded_hooks_do_not_run(world: World) -> None:
    state = world.state
    assert state.spec is not None
    state.spec["hooks"] = {"on_node_lost": ["touch", "ran"], "on_applied": ["touch", "ran"]}
    world.store.write(state)
    assert world.watch(world.end("cpu-1"), nothing) == 130
    assert world.state.nodes.keys() == {"scheduler", "cpu-0", "cpu-1"}
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            snapshot("""\
Error: the file of hooks h.toml does not exist
  Name a file with a table [hooks], which may be the spec.
"""),
        ),
        (
            "",
            snapshot("""\
Error: cannot read hooks from h.toml: it has none
  Add one, such as `on_node_lost = ["./notify.sh", "lost"]`, to its table [hooks].
"""),
        ),
        (
            "[hooks]\n",
            snapshot("""\
Error: cannot read hooks from h.toml: it has none
  Add one, such as `on_node_lost = ["./notify.sh", "lost"]`, to its table [hooks].
"""),
        ),
        (
            "[hooks]\non_node_lots = ['x']\n",
            snapshot("""\
Error: [hooks] has no key `on_node_lots`
 --> h.toml:2:1
  |
2 | on_node_lots = ['x']
  | ^^^^^^^^^^^^
  Did you mean `on_node_lost`?
"""),
        ),
        (
            "[hooks]\non_failed = 'mail'\n",
            snapshot("""\
Error: `hooks.on_failed` must be a list
 --> h.toml:2:1
  |
2 | on_failed = …
  | ^^^^^^^^^
  Example: `on_failed = ["./notify.sh", "failed"]`.
"""),
        ),
        (
            '{"serial": 1}',
            snapshot("""\
Error: cannot read hooks from h.toml: it is JSON, not TOML
  Add one, such as `on_node_lost = ["./notify.sh", "lost"]`, to its table [hooks].
"""),
        ),
    ],
)
def test_files_without_valid_hooks(
    run: Run, folder: Path, content: str | None, message: str
) -> None:
    if content is not None:
        Path("h.toml").write_text(content)
    Path("planapply.toml").write_text(SPEC)
    result = run("watch", "--once", "--state", "planapply.state.json", "--hooks", "h.toml")
    assert (result.code, result.err) == (1, message)
