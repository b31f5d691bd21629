"""planapply logs: the output of one node, or of several."""

from collections.abc import Sequence

import pytest
from cli import fake_plugin
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.fleet import ProviderClient
from planapply.fleet.clock import SystemClock
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.log_tail import LogTail, new_lines
from planapply.ops.node_logs import follow_logs, read_logs
from planapply.ops.workspace import Workspace
from planapply.provider import ErrorKind, ProviderError
from planapply.store import open_store

STATE = "planapply.state.json"


@pytest.fixture
def applied(run: Run, cloud: FakeCloud) -> FakeCloud:
    """A cluster whose scheduler never answers."""
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    return cloud


@pytest.fixture
def consoles(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The consoles of the fake cloud's VMs, by ID; empty if not given."""
    texts: dict[str, str] = {}

    def console(provider: object, id: str, lines: int) -> str:
        if texts.get(id) == "broken":
            raise ProviderError(ErrorKind.REJECTED, "no permission")
        return "".join(texts.get(id, "").splitlines(keepends=True)[-lines:])

    monkeypatch.setattr(fake_plugin.Provider, "console", console)
    return texts


def test_one_node(run: Run, applied: FakeCloud) -> None:
    result = run("logs", "scheduler", "--lines", "2")
    assert result == (0, "line 98 of i-0000\nline 99 of i-0000\n", "")
    assert len(run("logs", "cpu-2").out.splitlines()) == 100


def test_several_nodes(run: Run, applied: FakeCloud) -> None:
    assert run("logs", "-n", "2") == (
        0,
        snapshot("""\
scheduler | line 98 of i-0000
scheduler | line 99 of i-0000
cpu-0     | line 98 of i-0001
cpu-0     | line 99 of i-0001
cpu-1     | line 98 of i-0002
cpu-1     | line 99 of i-0002
cpu-2     | line 98 of i-0003
cpu-2     | line 99 of i-0003
"""),
        "",
    )
    assert run("logs", "cpu-[1-2]", "cpu-1", "-n", "1") == (
        0,
        snapshot("""\
cpu-1 | line 99 of i-0002
cpu-2 | line 99 of i-0003
"""),
        "",
    )
    assert run("logs", "cpu", "-n", "1").out == snapshot("""\
cpu-0 | line 99 of i-0001
cpu-1 | line 99 of i-0002
cpu-2 | line 99 of i-0003
""")


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        (
            ["cpu-9"],
            snapshot("""\
Error: there is no node 'cpu-9'
  Nodes: scheduler, cpu-[0-2]. Name a node, a group, or a range such as cpu-[0-3].
"""),
        ),
        (
            ["cpu-[1-5]"],
            snapshot("""\
Error: there are no nodes cpu-[3-5]
  Nodes: scheduler, cpu-[0-2]. Name a node, a group, or a range such as cpu-[0-3].
"""),
        ),
        (
            ["cpu-[1-0]"],
            snapshot("""\
Error: 'cpu-[1-0]' is not a range
  Nodes: scheduler, cpu-[0-2]. Write, for example, cpu-[0-1].
"""),
        ),
        (
            ["cpu", "gpu"],
            snapshot("""\
Error: there is no node 'gpu'
  Nodes: scheduler, cpu-[0-2]. Name a node, a group, or a range such as cpu-[0-3].
"""),
        ),
    ],
)
def test_node_that_does_not_exist(
    run: Run, applied: FakeCloud, targets: list[str], error: str
) -> None:
    assert run("logs", *targets) == (1, "", error)


def test_cluster_without_nodes(run: Run, applied: FakeCloud) -> None:
    assert run("destroy", "--auto-approve").code == 0
    for arguments in ([], ["cpu-0"], ["--follow"]):
        assert run("logs", *arguments) == (
            1,
            "",
            snapshot("""\
Error: cannot print logs: cluster 'demo' has no nodes
  Run `planapply apply` first.
"""),
        )


def test_nodes_without_output_and_with_an_error(
    run: Run, applied: FakeCloud, consoles: dict[str, str]
) -> None:
    consoles |= {"i-0000": "one\ntwo", "i-0001": "broken"}
    assert run("logs") == (
        1,
        snapshot("""\
scheduler | one
scheduler | two
"""),
        snapshot("""\
cpu-[1-2] have printed nothing yet.
Error: cannot print the output of cpu-0: no permission
"""),
    )
    assert run("logs", "cpu-0") == (
        1,
        "",
        snapshot("Error: cannot print the output of cpu-0: no permission\n"),
    )
    assert run("logs", "cpu-1") == (0, "", "cpu-1 has printed nothing yet.\n")


def test_provider_without_console(
    run: Run, applied: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProviderClient, "has_console", False)
    error = snapshot("""\
Error: cannot print the output of cpu-0: the provider 'fake' does not support it, and the scheduler
has no logs of it
  See VM i-0001 in the cloud's own tools.
""")
    for arguments in (["cpu-0"], ["cpu-0", "--follow"]):
        assert run("logs", *arguments) == (1, "", error)


class FastClock(SystemClock):
    """A clock whose waits run the next step of a story instead."""

    def __init__(self, *steps: object) -> None:
        super().__init__()
        self.steps = list(steps)

    def sleep(self, seconds: float) -> None:
        self.steps.pop(0)()  # type: ignore[operator]


def test_follow(run: Run, applied: FakeCloud, consoles: dict[str, str]) -> None:
    consoles |= {"i-0001": "1\n2\n3\npart", "i-0003": "other\n"}
    seen: list[tuple[str, list[str]]] = []

    def show(name: str, lines: Sequence[str]) -> bool:
        seen.extend([(name, list(lines))] if lines else [])
        return True

    def print_more() -> None:
        consoles["i-0001"] += "ial\n5\n"

    def remove_cpu_2() -> None:
        seen.append(("removed", []))
        _remove("cpu-2")
        consoles["i-0001"] = ""  # as some clouds answer for a moment

    def print_again() -> None:
        consoles["i-0001"] = "2\n3\npartial\n5\n6\n"

    clock = FastClock(print_more, remove_cpu_2, print_again, lambda: _remove("cpu-0"))
    workspace = Workspace.from_state(STATE)
    workspace.clock = clock
    assert follow_logs(workspace, ["cpu-0", "cpu-2"], 2, show) == ["cpu-0"]
    assert seen == snapshot(
        [
            ("cpu-0", ["2", "3"]),
            ("cpu-2", ["other"]),
            ("cpu-0", ["partial", "5"]),
            ("removed", []),
            ("cpu-0", ["6"]),
        ]
    )


def test_follow_ends_without_a_reader(
    run: Run, applied: FakeCloud, consoles: dict[str, str]
) -> None:
    consoles |= {"i-0000": "1\n"}
    workspace = Workspace.from_state(STATE)
    workspace.clock = FastClock()  # without a step, a wait would fail
    follow_logs(workspace, [], 1, lambda name, lines: False)


def test_follow_ends_with_the_error_of_a_console(
    run: Run, applied: FakeCloud, consoles: dict[str, str]
) -> None:
    consoles["i-0001"] = "broken"
    with pytest.raises(PlanapplyError, match="no permission"):
        follow_logs(Workspace.from_state(STATE), [], 1, lambda name, lines: True)
    [good, bad] = read_logs(Workspace.from_state(STATE), ["scheduler", "cpu-0"], 1)
    assert (good.error, bad.text) == (None, "")


def _remove(name: str) -> None:
    store = open_store(STATE)
    state = store.read()
    assert state is not None
    del state.nodes[name]
    store.write(state)


@pytest.mark.parametrize(
    ("previous", "current", "new"),
    [
        ([], [], []),
        ([], ["a"], ["a"]),
        (["a"], ["a", "b"], ["b"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a", "b", "c"], ["b", "c", "d"], ["d"]),
        (["a", "long line", "c"], ["line", "c", "d"], ["d"]),  # the console cut the first line
        (["a", "b"], ["c", "d"], ["c", "d"]),
        (["a", "b", "c"], ["b", "c"], []),
        (["a", "b"], ["x"], ["x"]),
    ],
)
def test_new_lines(previous: list[str], current: list[str], new: list[str]) -> None:
    assert new_lines(previous, current) == new


def test_no_line_of_console_and_scheduler_is_shown_twice() -> None:
    log = [f"2026-03-02 09:30:0{i},000 - distributed.worker - INFO - {i}" for i in range(8)]
    tail = LogTail("i-1")
    console = f"boot\n[   9.1] cloud-init[12]: {log[0]}\ncloud-init[12]: {log[1]}\n"
    assert tail.start(console, 10) == console.splitlines()
    assert tail.add_record(log[:4], 3) == log[2:4]  # the console lags
    assert tail.add_record(log[:5], 3) == log[4:5]
    console += "".join(f"cloud-init[12]: {line}\n" for line in [log[2], "a print", *log[3:6]])
    assert tail.add_console(console) == ["cloud-init[12]: a print", f"cloud-init[12]: {log[5]}"]
    assert tail.add_record(log[:6], 3) == []
