"""Hooks: programs of the local spec, with the event on stdin and in variables; never those of others."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli.commands import SPEC, Run, events
from fake_provider import FakeCloud
from inline_snapshot import snapshot

import planapply
from planapply.model.diagnostics import PlanapplyError
from planapply.ops import hooks
from planapply.ops.workspace import Workspace
from planapply.provider import LaunchRequest, LaunchResult
from planapply.store import open_store

APPLY = ("apply", "--auto-approve", "--no-wait")
NAMES = ("on_node_lost", "on_applied", "on_failed", "before_destroy")
LOG = """\
printf '%s ' "$1" >> log
env | grep ^PLANAPPLY_ | sort | sed "s|$PWD|FOLDER|" > "$1.env"
cat > "$1.json"
"""


def write_hooks(code: str = LOG, *names: str) -> None:
    """Write the spec with hooks that run this shell code, whose argument is the hook's name."""
    script = Path("hook.sh")
    script.write_text(f"#!/bin/sh\n{code}")
    script.chmod(0o755)
    lines = [f'{name} = ["./hook.sh", "{name}"]\n' for name in names or NAMES]
    Path("planapply.toml").write_text(f"{SPEC}\n[hooks]\n{''.join(lines)}")


def without_times(text: str) -> str:
    return re.sub(r"^ +\d+:\d\d  ", "", text, flags=re.MULTILINE)


def hook_lines(err: str) -> str:
    """Return the lines about hooks, without the time since the start."""
    lines = without_times(err).splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("hook "))


def ran() -> list[str]:
    """Return the hooks that have run."""
    log = Path("log")
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def vm_of(node: str) -> str:
    state = open_store("planapply.state.json").read()
    assert state is not None
    return state.nodes[node].vm


def event_of(hook: str, folder: Path) -> object:
    """Return the event on a hook's stdin; its time is checked."""
    document = json.loads(Path(f"{hook}.json").read_text().replace(str(folder), "FOLDER"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document.pop("time"))
    return document


def test_life_of_a_cluster(run: Run, cloud: FakeCloud, folder: Path) -> None:
    write_hooks()
    result = run(*APPLY)
    assert (result.code, without_times(result.err)) == (
        0,
        snapshot("""\
scheduler: launching (small)
scheduler: launched
cpu-[0-2]: launching (large)
cpu-[0-2]: launched
hook on_applied: started
hook on_applied: finished
"""),
    )
    assert ran() == ["on_applied"]
    assert event_of("on_applied", folder) == snapshot(
        {
            "format_version": 2,
            "event": "on_applied",
            "cluster": "demo",
            "command": "apply",
            "state": "FOLDER/planapply.state.json",
            "nodes": ["scheduler", "cpu-0", "cpu-1", "cpu-2"],
            "counts": {"added": 4, "changed": 0, "destroyed": 0},
            "errors": [],
        }
    )
    assert Path("on_applied.env").read_text() == snapshot("""\
PLANAPPLY_ADDED=4
PLANAPPLY_CHANGED=0
PLANAPPLY_CLUSTER=demo
PLANAPPLY_COMMAND=apply
PLANAPPLY_DESTROYED=0
PLANAPPLY_ERRORS=
PLANAPPLY_EVENT=on_applied
PLANAPPLY_NODES=scheduler,cpu-[0-2]
PLANAPPLY_STATE=FOLDER/planapply.state.json
""")
    assert run(*APPLY).code == 0  # no changes
    assert ran() == []

    cloud.end_vm(vm_of("cpu-1"))
    assert run(*APPLY).code == 0
    assert ran() == ["on_node_lost", "on_applied"]
    assert event_of("on_node_lost", folder) == snapshot(
        {
            "format_version": 2,
            "event": "on_node_lost",
            "cluster": "demo",
            "command": "apply",
            "state": "FOLDER/planapply.state.json",
            "nodes": ["cpu-1"],
            "counts": {"added": 0, "changed": 0, "destroyed": 0},
            "errors": [],
        }
    )
    assert event_of("on_applied", folder) == snapshot(
        {
            "format_version": 2,
            "event": "on_applied",
            "cluster": "demo",
            "command": "apply",
            "state": "FOLDER/planapply.state.json",
            "nodes": ["cpu-1"],
            "counts": {"added": 1, "changed": 0, "destroyed": 0},
            "errors": [],
        }
    )

    result = run("destroy", "--auto-approve", "--no-retire")
    assert (result.code, hook_lines(result.err)) == (
        0,
        snapshot("""\
hook before_destroy: started
hook before_destroy: finished
"""),
    )
    assert ran() == ["before_destroy"]
    assert event_of("before_destroy", folder) == snapshot(
        {
            "format_version": 2,
            "event": "before_destroy",
            "cluster": "demo",
            "command": "destroy",
            "state": "FOLDER/planapply.state.json",
            "nodes": ["scheduler", "cpu-0", "cpu-1", "cpu-2"],
            "counts": {"added": 0, "changed": 0, "destroyed": 4},
            "errors": [],
        }
    )
    assert Path("before_destroy.env").read_text() == snapshot("""\
PLANAPPLY_ADDED=0
PLANAPPLY_CHANGED=0
PLANAPPLY_CLUSTER=demo
PLANAPPLY_COMMAND=destroy
PLANAPPLY_DESTROYED=4
PLANAPPLY_ERRORS=
PLANAPPLY_EVENT=before_destroy
PLANAPPLY_NODES=scheduler,cpu-[0-2]
PLANAPPLY_STATE=FOLDER/planapply.state.json
""")


def test_failures_are_reported_with_their_codes(run: Run, cloud: FakeCloud, folder: Path) -> None:
    write_hooks()
    cloud.capacity["large"] = 1
    result = run(*APPLY, "--parallelism", "1")
    assert (result.code, ran()) == (1, ["on_failed"])
    assert event_of("on_failed", folder) == snapshot(
        {
            "format_version": 2,
            "event": "on_failed",
            "cluster": "demo",
            "command": "apply",
            "state": "FOLDER/planapply.state.json",
            "nodes": ["cpu-1", "cpu-2"],
            "counts": {"added": 2, "changed": 0, "destroyed": 0},
            "errors": [
                {
                    "node": "cpu-1",
                    "code": "cloud_capacity",
                    "summary": "cpu-1: 2 VMs too many: large",
                },
                {
                    "node": "cpu-2",
                    "code": "cloud_capacity",
                    "summary": "cpu-2: 2 VMs too many: large",
                },
            ],
        }
    )
    # A plan that cannot be made, or is refused, has changed nothing.
    assert run("apply", "--no-wait", "--target", "nobody").code == 1
    assert run("apply", "--no-wait").code == 1  # not approved
    assert ran() == []


def test_scale_runs_hooks(run: Run, cloud: FakeCloud) -> None:
    write_hooks()
    spec = Path("planapply.toml")
    spec.write_text(spec.read_text().replace("count = 3", "min = 1\nmax = 6"))
    assert run(*APPLY, "--no-hooks").code == 0
    assert run("scale", "cpu=2", "--auto-approve", "--no-wait", "--no-hooks").code == 0
    assert ran() == []
    assert run("scale", "cpu=3", "--auto-approve", "--no-wait").code == 0
    assert ran() == ["on_applied"]
    document = json.loads(Path("on_applied.json").read_text())
    assert (document["command"], document["nodes"]) == ("scale", ["cpu-2"])


def test_failing_hook_stops_only_a_destroy(run: Run, cloud: FakeCloud) -> None:
    write_hooks("echo no luck; exit 3")
    result = run(*APPLY)
    assert (result.code, hook_lines(result.err)) == (
        0,
        snapshot("""\
hook on_applied: started
hook on_applied: no luck
hook on_applied: failed: it exited with code 3
"""),
    )
    before = Path("planapply.state.json").read_text()
    result = run("destroy", "--auto-approve", "--target", "cpu-0")
    assert (result.code, without_times(result.err)) == (
        1,
        snapshot("""\
hook before_destroy: started
hook before_destroy: no luck
hook before_destroy: failed: it exited with code 3
Error: cannot destroy cluster 'demo': the hook before_destroy failed: it exited with code 3
  Nothing was changed. Fix the hook, or skip it: `planapply destroy --target cpu-0 --no-hooks`
"""),
    )
    assert Path("planapply.state.json").read_text() == before
    assert run("destroy", "--auto-approve", "--no-hooks", "--no-retire").code == 0
    assert not cloud.live_vms()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            '["./missing.sh"]',
            snapshot("""\
hook on_applied: started
hook on_applied: failed: cannot start './missing.sh': No such file or directory
"""),
        ),
        (
            '["no-such-program"]',
            snapshot("""\
hook on_applied: started
hook on_applied: failed: cannot start 'no-such-program': there is no such program in PATH
"""),
        ),
        (
            '["echo done"]',
            snapshot("""\
hook on_applied: started
hook on_applied: failed: cannot start 'echo done': there is no such program in PATH; write the program and its arguments as separate elements
"""),
        ),
        (
            '["./planapply.toml"]',
            snapshot("""\
hook on_applied: started
hook on_applied: failed: cannot start './planapply.toml': Permission denied
"""),
        ),
        (
            '["sh", "-c", "kill -SEGV $$"]',
            snapshot("""\
hook on_applied: started
hook on_applied: failed: it was ended by SIGSEGV
"""),
        ),
    ],
)
def test_hooks_that_cannot_run(run: Run, cloud: FakeCloud, words: str, message: str) -> None:
    Path("planapply.toml").write_text(f"{SPEC}\n[hooks]\non_applied = {words}\n")
    result = run(*APPLY)
    assert (result.code, hook_lines(result.err)) == (0, message)


def test_output_is_masked_printable_and_bounded(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "environment-secret")
    monkeypatch.setattr(hooks, "MAX_LINES", 9)
    write_hooks(
        """\
echo "env $SERVICE_TOKEN, spec spec-secret-1"
echo "curl -H 'Authorization: Bearer abcdef123' https://me:pw@example.org/x?token=t0t0t0"
printf 'bell \\007 escape \\033[31m\\rprogress\\n\\nno UTF-8 \\377\\n' >&2
head -c 100000 /dev/zero | tr '\\0' x; echo
seq 200
printf 'last'
"""
    )
    spec = Path("planapply.toml")
    spec.write_text(f'{spec.read_text()}\n[environment.env]\nMY_PASSWORD = "spec-secret-1"\n')
    result = run(*APPLY)
    assert hook_lines(result.err.replace("x" * 400, "x")) == snapshot("""\
hook on_applied: started
hook on_applied: env …, spec …
hook on_applied: curl -H 'Authorization: Bearer …' https://…@example.org/x?token=…
hook on_applied: bell � escape �[31m
hook on_applied: progress
hook on_applied: no UTF-8 �
hook on_applied: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
hook on_applied: 1
hook on_applied: 2
hook on_applied: 3
hook on_applied: … and 198 more lines
hook on_applied: finished
""")


def test_events_for_programs(run: Run, cloud: FakeCloud) -> None:
    write_hooks("echo one; exit 4", "on_applied")
    found = events(run(*APPLY, "--json").out)
    hook_events = [event for event in found if event["event"] == "hook"]
    for event in hook_events:
        event["data"].pop("seconds", None)
    assert hook_events == snapshot(
        [
            {
                "event": "hook",
                "message": "hook on_applied: started",
                "data": {"hook": "on_applied", "status": "started"},
            },
            {
                "event": "hook",
                "message": "hook on_applied: one",
                "data": {"hook": "on_applied", "status": "output"},
            },
            {
                "event": "hook",
                "message": "hook on_applied: failed: it exited with code 4",
                "data": {"hook": "on_applied", "status": "failed"},
            },
        ]
    )
    assert found[-1]["event"] == "finished"
    assert found[-1]["data"]["outcome"] == "complete"


def write_tree() -> None:
    """Write a hook that ignores SIGTERM, as does its child; `pids` has both."""
    write_hooks(
        "trap '' TERM; sleep 600 & echo $$ $! > pids.new; mv pids.new pids; wait; sleep 600"
    )


def wait_until_gone(*pids: int) -> None:
    _, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60.0
    )
    assert not alive


def test_hook_that_hangs_is_killed_with_its_children(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree()
    monkeypatch.setattr(hooks, "TIME_LIMIT", 0.5)
    monkeypatch.setattr(hooks, "KILL_DELAY", 0.1)
    result = run(*APPLY)
    assert (result.code, hook_lines(result.err)) == (
        0,
        snapshot("""\
hook on_applied: started
hook on_applied: failed: it did not exit within 0.5 s, and was killed
"""),
    )
    wait_until_gone(*map(int, Path("pids").read_text().split()))
    result = run("destroy", "--auto-approve")
    assert (result.code, without_times(result.err)) == (
        1,
        snapshot("""\
hook before_destroy: started
hook before_destroy: failed: it did not exit within 0.5 s, and was killed
Error: cannot destroy cluster 'demo': the hook before_destroy failed: it did not exit within 0.5 s,
and was killed
  Nothing was changed. Fix the hook, or skip it: `planapply destroy --no-hooks`
"""),
    )
    assert len(cloud.live_vms()) == 4


def test_child_that_outlives_its_hook(run: Run, cloud: FakeCloud, tmp_path: Path) -> None:
    # One in the hook's process group, and one in a session of its own; both hold the hook's output.
    write_hooks(
        "sleep 600 & echo $! > pid; setsid sh -c 'echo $$ > other; exec sleep 600' & "
        "while [ ! -s other ]; do sleep 0.01; done; echo done"
    )
    result = run(*APPLY)
    assert (result.code, hook_lines(result.err)) == (
        0,
        snapshot("""\
hook on_applied: started
hook on_applied: done
hook on_applied: finished
"""),
    )
    other = int(Path("other").read_text())
    wait_until_gone(int(Path("pid").read_text()))
    os.kill(other, signal.SIGKILL)  # it has left the group, and may live


@pytest.fixture
def terminator() -> Iterator[threading.Thread]:
    """A thread that sends SIGTERM to this process once a hook of `write_tree` runs."""

    def terminate() -> None:
        while not Path("pids").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate, daemon=True)
    yield thread
    thread.join()


def test_signal_kills_a_running_hook(
    run: Run, cloud: FakeCloud, terminator: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "KILL_DELAY", 0.1)
    write_tree()
    terminator.start()
    result = run(*APPLY)
    assert (result.code, hook_lines(result.err)) == (
        143,
        snapshot("""\
hook on_applied: started
hook on_applied: killed, since planapply was stopped
"""),
    )
    assert result.err.splitlines()[-2:] == snapshot(
        [
            "Apply stopped: 4 added, 0 changed, 0 destroyed. This is recorded; the next apply or destroy",
            "continues from there.",
        ]
    )
    wait_until_gone(*map(int, Path("pids").read_text().split()))
    assert len(cloud.live_vms()) == 4


def test_signal_stops_a_destroy_in_its_hook(
    run: Run, cloud: FakeCloud, terminator: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "KILL_DELAY", 0.1)
    assert run(*APPLY).code == 0
    write_tree()
    terminator.start()
    assert run("destroy", "--auto-approve").code == 143
    wait_until_gone(*map(int, Path("pids").read_text().split()))
    assert len(cloud.live_vms()) == 4


def test_no_hook_starts_after_a_signal(run: Run, cloud: FakeCloud) -> None:
    # The signal arrives while the last request is sent: the apply records it, and no hook runs.
    write_hooks()
    launch, requests = cloud.launch, []

    def interrupt(request: LaunchRequest) -> LaunchResult:
        requests.append(request)
        if len(requests) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return launch(request)

    cloud.launch = interrupt  # type: ignore[method-assign]
    assert run(*APPLY).code == 143
    assert ran() == []


def test_hooks_of_others_never_run(run: Run, cloud: FakeCloud) -> None:
    spec = SPEC.replace("count = 3", "min = 1\nmax = 6")
    Path("planapply.toml").write_text(spec)
    assert run(*APPLY).code == 0
    hook = {name: ["touch", f"{name}.ran"] for name in NAMES}
    edit("planapply.state.json", lambda state: state["spec"].update(hooks=hook))
    assert run("scale", "cpu=3", "--auto-approve", "--no-wait").code == 0
    assert run("plan", "--out", "changes.plan").code == 0

    # An edited plan file sets a hook: its options must be repeated on the command line.
    Path("planapply.toml").write_text(spec.replace("max = 6", "max = 7"))
    assert run("plan", "--set", "hooks.on_applied=['touch', 'set.ran']", "--out", "p").code == 0
    assert "set.ran" not in Path("p").read_text()
    edit("p", lambda plan: plan.update(overrides=["hooks.on_applied=['touch', 'plan.ran']"]))
    result = run("apply", "p", "--no-wait")
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: cannot take all options from the plan file: they set `hooks.on_applied`
  Such a key can run code on the nodes, and the file may have been edited. If you set it, repeat
  every --set of your `planapply plan` after `planapply apply p`.
"""),
    )

    assert run("destroy", "--auto-approve", "--no-retire").code == 0
    assert not cloud.live_vms()
    assert not list(Path().glob("*.ran"))


def edit(path: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(Path(path).read_text())
    change(document)
    Path(path).write_text(json.dumps(document))


def test_saved_plan_runs_hooks_of_the_local_spec(run: Run, cloud: FakeCloud) -> None:
    write_hooks("exit 1", "on_applied")
    assert run("plan", "--out", "p").code == 0
    write_hooks()  # hooks are no part of the plan, and may change
    assert run("apply", "p", "--no-wait").code == 0
    assert ran() == ["on_applied"]
    state = Path("planapply.state.json").read_text()
    assert "hook.sh" not in state + Path("p").read_text()
    assert run("plan", "--destroy", "--out", "p").code == 0
    assert run("apply", "p").code == 0
    assert ran() == ["before_destroy"]


def test_hooks_of_a_spec_run_with_another_location_of_its_state(run: Run, cloud: FakeCloud) -> None:
    write_hooks("exit 1", "before_destroy")
    assert run(*APPLY, "--state", "other.json").code == 0
    assert run("destroy", "--auto-approve", "--state", "other.json").code == 1
    # The spec in this folder is that of another cluster.
    spec = Path("planapply.toml")
    spec.write_text(spec.read_text().replace('"demo"', '"elsewhere"'))
    assert run("destroy", "--auto-approve", "--no-retire", "--state", "other.json").code == 0


def test_relative_program_is_in_the_folder_of_the_spec(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hooks()
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert run(*APPLY, "-f", "../planapply.toml").code == 0
    monkeypatch.chdir("..")
    assert ran() == ["on_applied"]


def test_invalid_hooks_are_errors_with_positions(run: Run, cloud: FakeCloud) -> None:
    assert run(*APPLY).code == 0
    Path("planapply.toml").write_text(
        f"""{SPEC}
[hooks]
on_aplied = ["./notify.sh"]
on_applied = "./notify.sh --password pa55word"
on_failed = []
before_destroy = ["", "x"]
on_node_lost = ["a\\u0000b"]
"""
    )
    assert run("validate").err == snapshot("""\
Error: [hooks] has no key `on_aplied`
  --> planapply.toml:16:1
   |
16 | on_aplied = ["./notify.sh"]
   | ^^^^^^^^^
  Did you mean `on_applied`?

Error: `hooks.on_applied` must be a list
  --> planapply.toml:17:1
   |
17 | on_applied = …
   | ^^^^^^^^^^
  Example: `on_applied = ["./notify.sh", "applied"]`.

Error: `hooks.on_failed`: the list does not begin with a program
  --> planapply.toml:18:1
   |
18 | on_failed = …
   | ^^^^^^^^^
  Write the program and its arguments, each as one element; or omit the key.

Error: `hooks.before_destroy`: the list does not begin with a program
  --> planapply.toml:19:1
   |
19 | before_destroy = …
   | ^^^^^^^^^^^^^^
  Write the program and its arguments, each as one element; or omit the key.

Error: `hooks.on_node_lost[0]` has a zero byte
  --> planapply.toml:20:16
   |
20 | on_node_lost = …
   |                ^
  Remove it.
""")
    # Commands that need only a state read the hooks, too, so that none is skipped by mistake.
    result = run("destroy", "--auto-approve")
    assert (result.code, "on_applied" in result.err) == (1, True)
    assert run("destroy", "--auto-approve", "--no-hooks", "--no-retire").code == 0
    assert run("validate", "--set", "hooks=1").err == snapshot("""\
Error: --set hooks=1: `hooks` must be a table, not 1
  Write a table: [hooks].
""")


def test_python(run: Run, cloud: FakeCloud) -> None:
    write_hooks()
    seen: list[str] = []
    planapply.apply(wait=False, progress=lambda event: seen.append(event.event))
    assert ran() == ["on_applied"]
    assert seen.count("hook") == 2
    # The way to skip hooks: a spec without any.
    planapply.apply(wait=False, progress=False, overrides={"workers.cpu.count": 4, "hooks": {}})
    assert ran() == []
    write_hooks("exit 1", "before_destroy")
    with pytest.raises(PlanapplyError) as caught:
        planapply.destroy(progress=False, retire=False)
    assert str(caught.value) == snapshot("""\
cannot destroy cluster 'demo': the hook before_destroy failed: it exited with code 1
Nothing was changed. Fix the hook, or skip it: `planapply destroy --no-hooks`\
""")
    assert len(cloud.live_vms()) == 5
    planapply.destroy(progress=False, retire=False, overrides={"hooks": {}})
    assert not cloud.live_vms()


def test_hook_reads_a_large_event(run: Run, cloud: FakeCloud, folder: Path) -> None:
    # Larger than a pipe, and than a variable may be; a hook that reads nothing does not block.
    event = hooks.HookEvent(
        "on_node_lost", "demo", "watch", [f"cpu-{2 * i}" for i in range(20_000)]
    )
    write_hooks()
    workspace = Workspace.from_spec("planapply.toml", with_hooks=True)
    assert hooks.run_hook(workspace, event, lambda event: None) == ""
    assert len(json.loads(Path("on_node_lost.json").read_text())["nodes"]) == 20_000
    assert "NODES" not in Path("on_node_lost.env").read_text()
    write_hooks("exit 0")
    assert hooks.run_hook(workspace, event, lambda event: None) == ""
