"""planapply state list, show, rm, pull, and push."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.fleet.tls import make_tls
from planapply.model.state import Choice, Intent, State
from planapply.store import open_store

STATE = "planapply.state.json"


def read(place: str = STATE) -> State:
    state = open_store(place).read()
    assert state is not None
    return state


def change(**values: object) -> State:
    store = open_store(STATE)
    state = store.read()
    assert state is not None
    for key, value in values.items():
        setattr(state, key, value)
    state.serial += 1
    store.write(state)
    return state


@pytest.fixture
def applied(run: Run, cloud: FakeCloud) -> FakeCloud:
    assert run("apply", "--auto-approve", "--no-wait", "--parallelism", "1").code == 0
    return cloud


def test_list(run: Run, applied: FakeCloud) -> None:
    assert run("state", "list") == (0, "scheduler\ncpu-0\ncpu-1\ncpu-2\n", "")
    assert json.loads(run("state", "list", "--json").out) == [
        "scheduler",
        "cpu-0",
        "cpu-1",
        "cpu-2",
    ]


def test_show(run: Run, applied: FakeCloud) -> None:
    record = read().nodes["cpu-1"]

    def fixed(text: str) -> str:
        text = text.replace(record.batch, "BATCH").replace(record.config, "CONFIG")
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\d{10}\.\d+", "WHEN", text)

    result = run("state", "show", "cpu-1")
    assert (result.code, fixed(result.out), result.err) == (
        0,
        snapshot("""\
cpu-1
  vm              = "i-0002"
  config          = "CONFIG"
  batch           = "BATCH"
  status          = "launched"
  private_address = "127.0.0.3"
  port            = 1
  size            = "large"
  launched_at     = WHEN UTC

Configuration:
  group = "cpu"
  class = "distributed.Nanny"
  size  = ["large"]
"""),
        "",
    )
    result = run("state", "show", "cpu-1", "--json")
    assert json.loads(re.sub("WHEN", '"WHEN"', fixed(result.out))) == snapshot(
        {
            "name": "cpu-1",
            "vm": "i-0002",
            "config": "CONFIG",
            "batch": "BATCH",
            "status": "launched",
            "private_address": "127.0.0.3",
            "public_address": None,
            "port": 1,
            "size": "large",
            "zone": None,
            "spot": False,
            "launched_at": "WHEN",
            "joined_at": None,
            "tags": {},
            "lifetimes": None,
            "made_from": {"group": "cpu", "class": "distributed.Nanny", "size": ["large"]},
        }
    )
    change(configs={})
    assert run("state", "show", "cpu-1").out.splitlines()[-1] == snapshot(
        "Its configuration is unknown."
    )


def test_show_of_an_unknown_node_is_an_error(run: Run, applied: FakeCloud) -> None:
    assert run("state", "show", "cpu-9") == (
        1,
        "",
        snapshot("""\
Error: the state has no node 'cpu-9'
  Nodes: scheduler, cpu-[0-2].
"""),
    )
    config = read().nodes["cpu-0"].config
    open_request = Intent(names=["cpu-9"], config=config, choice=Choice(), requested_at=0.0)
    change(intents={"t": open_request})
    assert run("state", "show", "cpu-9") == (
        1,
        "",
        snapshot("""\
Error: the result of the launch request for cpu-9 is unknown
  Its VM may exist. The next `planapply apply` or `planapply destroy` will find out.
"""),
    )


def test_rm_drops_nodes_and_the_next_plan_adopts_them(run: Run, applied: FakeCloud) -> None:
    serial = read().serial
    assert run("state", "rm", "cpu-[0-1]") == (
        0,
        snapshot("Removed cpu-[0-1] from the state.\n"),
        snapshot("""\
The VMs were left running: i-0001, i-0002. While they run, the next plan finds them by their tags
and adopts them again; to prevent that, terminate them yourself.
"""),
    )
    assert sorted(read().nodes) == ["cpu-2", "scheduler"]
    assert read().serial == serial + 1
    assert len(applied.live_vms()) == 4
    assert run("plan") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 4.60 USD/h (list prices of 2025-03-02)
"""),
        snapshot("""\

Warning: found VMs that were not in the state: cpu-[0-1]
  planapply launched them for this cluster; an apply adopts them into the state.
"""),
    )
    assert run("apply", "--no-wait").code == 0
    assert sorted(read().nodes) == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
    assert len(applied.live_vms()) == 4


def test_rm_of_a_terminated_vm(run: Run, applied: FakeCloud) -> None:
    vm = read().nodes["cpu-2"].vm
    applied.end_vm(vm)
    assert json.loads(run("state", "rm", "cpu-2", "--json").out) == {"cpu-2": vm}
    assert "  +   cpu-2   large" in run("plan").out


def test_rm_of_the_scheduler_and_of_a_group(run: Run, applied: FakeCloud) -> None:
    assert run("state", "rm", "scheduler", "cpu").code == 0
    assert (read().nodes, read().endpoint) == ({}, None)
    assert run("state", "list") == (0, "", "")


def test_rm_of_an_unknown_node_drops_nothing(run: Run, applied: FakeCloud) -> None:
    before = read()
    assert run("state", "rm", "cpu-0", "gpu") == (
        1,
        "",
        snapshot("""\
Error: there is no node 'gpu'
  Nodes: scheduler, cpu-[0-2]. Name a node, a group, or a range such as cpu-[0-3].
"""),
    )
    assert read() == before


@pytest.mark.parametrize(
    ("target", "summary", "advice"),
    [
        (
            "cpu-[0-3]",
            "there is no node cpu-3",
            "Name a node, a group, or a range such as cpu-[0-3].",
        ),
        (
            "gpu-[0-1]",
            "there are no nodes gpu-[0-1]",
            "Name a node, a group, or a range such as cpu-[0-3].",
        ),
        ("cpu-[2-0]", "'cpu-[2-0]' is not a range", "Write, for example, cpu-[0-2]."),
        ("cpu-[0,2]", "'cpu-[0,2]' is not a range", "Write, for example, cpu-[0-3]."),
        ("gpu[0]", "'gpu[0]' is not a range", "Write, for example, gpu-[0-3]."),
        ("[0-3]", "'[0-3]' is not a range", "Write, for example, cpu-[0-3]."),
        ("cpu-[0-]", "'cpu-[0-]' is not a range", "Write, for example, cpu-[0-3]."),
    ],
)
def test_ranges_are_never_cut(
    run: Run, applied: FakeCloud, target: str, summary: str, advice: str
) -> None:
    before = read()
    result = run("state", "rm", target)
    text = " ".join(result.err.split())
    assert (result.code, text) == (1, f"Error: {summary} Nodes: scheduler, cpu-[0-2]. {advice}")
    assert read() == before


def test_pull_and_push_transfer_a_state(run: Run, applied: FakeCloud, tmp_path: Path) -> None:
    change(tls=make_tls("demo"))
    copy, place = tmp_path / "a copy.json", str(tmp_path / "elsewhere.json")
    result = run("state", "pull", str(copy))
    assert (result.code, result.out.replace(str(tmp_path), ""), result.err) == (
        0,
        snapshot('The state of cluster "demo" (4 nodes, serial 7) is now in /a copy.json\n'),
        snapshot(
            "Every copy of the state contains the cluster's TLS key: delete copies that you do not need.\n"
        ),
    )
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    assert read(str(copy)) == read()
    for command in ("state pull", "show", "state show cpu-0", "state list"):
        told = run(*command.split(), *([str(copy)] if command == "state pull" else []))
        assert "PRIVATE KEY" not in told.out + told.err
    result = run("state", "push", str(copy), "--state", place, "--json")
    assert (result.code, json.loads(result.out)) == (
        0,
        {
            "location": place,
            "cluster": "demo",
            "lineage": read().lineage,
            "serial": read().serial,
            "nodes": 4,
        },
    )
    Path(STATE).unlink()
    assert run("plan", "--state", place).out.startswith("No changes.")
    assert run("destroy", "--auto-approve", "--state", place).code == 0
    assert not applied.live_vms()


def test_push_that_would_lose_vms_is_refused(run: Run, applied: FakeCloud) -> None:
    assert run("state", "pull", "old").code == 0
    lineage = read().lineage
    assert (
        run(
            "apply", "--auto-approve", "--no-wait", "--no-retire", "--set", "workers.cpu.count=1"
        ).code
        == 0
    )
    before = Path(STATE).read_bytes()
    result = run("state", "push", "old")
    assert (result.code, result.out, result.err) == (
        1,
        "",
        snapshot("""\
Error: cannot replace the state: the file is older
  The file has serial 6, and the state has serial 9. Replacing the state would lose track of later
  changes. Run `planapply plan`: it finds VMs that are missing from the state by their tags.
"""),
    )
    other = read("old").model_copy(update={"lineage": "of-another", "serial": 99})
    open_store("other").write(other)
    result = run("state", "push", "other")
    assert (result.code, result.out, result.err.replace(lineage, "LINEAGE")) == (
        1,
        "",
        snapshot("""\
Error: cannot replace the state: the file is the state of a different cluster
  The file belongs to cluster "demo" (lineage of-another), the state to cluster "demo" (lineage
  LINEAGE). Replacing the state would lose track of its VMs. Push the
  file to another location with --state.
"""),
    )
    assert run("state", "push", "none") == (
        1,
        "",
        snapshot("""\
Error: the file none does not exist
  Pass a file that `planapply state pull` wrote.
"""),
    )
    Path("damaged").write_bytes(before[:-30])
    assert run("state", "push", "damaged").err.startswith(
        "Error: damaged is not a planapply state\n  It is truncated ("
    )
    Path("rubbish").write_text("dear diary")
    assert run("state", "push", "rubbish") == (
        1,
        "",
        snapshot("""\
Error: rubbish is not a planapply state
  It is damaged, or not JSON (10 bytes): expected value at line 1 column 1.
  Pass a file that `planapply state pull` wrote.
"""),
    )
    assert Path(STATE).read_bytes() == before


def test_push_of_an_equal_state_changes_nothing(run: Run, applied: FakeCloud) -> None:
    assert run("state", "pull", "same").code == 0
    before = os.stat(STATE).st_mtime_ns
    assert run("state", "push", "same").code == 0
    assert run("state", "pull", "same").code == 0
    assert os.stat(STATE).st_mtime_ns == before


def test_pull_overwrites_only_an_older_copy(run: Run, applied: FakeCloud) -> None:
    assert run("state", "pull", "copy").code == 0
    serial = change(protect=True).serial
    assert run("state", "pull", "copy").code == 0
    assert read("copy").serial == serial
    open_store("newer").write(read("copy").model_copy(update={"serial": 99}))
    result = run("state", "pull", "newer")
    assert (result.code, result.out) == (1, "")
    assert result.err.replace(read().lineage, "LINEAGE") == snapshot("""\
Error: cannot write newer: the file contains a newer version of this state
  The file belongs to cluster "demo" (lineage LINEAGE, serial 99), the
  state to cluster "demo" (lineage LINEAGE, serial 7). Choose another
  file.
""")
    Path("notes").write_text("dear diary")
    assert run("state", "pull", "notes") == (
        1,
        "",
        snapshot("""\
Error: cannot write notes: the file exists and is not a state
  Choose another file. Only an older copy of the same state is overwritten.
"""),
    )
    assert Path("notes").read_text() == "dear diary"
    assert read("newer").serial == 99


def test_every_command_waits_for_the_lock_or_reports_its_holder(
    run: Run, applied: FakeCloud
) -> None:
    run("state", "pull", "copy")
    with open_store(STATE).lock("a test"):
        for arguments in (
            ["rm", "cpu-0"],
            ["push", "copy"],
            ["rm", "cpu", "--lock-timeout", "0.2"],
        ):
            result = run("state", *arguments)
            assert (result.code, result.out) == (1, "")
            locked = "is still locked after 0.2 s" if "0.2" in arguments else "is locked"
            assert f"Error: the state {STATE} {locked}\n" in result.err
            assert "for a test" in result.err
        assert run("state", "list").code == 0


def test_help_and_usage(run: Run) -> None:
    assert run("state", "--help") == (
        0,
        snapshot("""\
Usage: planapply state [OPTIONS] COMMAND [ARGS]...

  Inspect or edit the state.

Options:
  -h, --help  Show this message and exit.

Commands:
  list  Print the names of the nodes in the state.
  show  Show the record of one node.
  rm    Remove nodes from the state; leave their VMs running.
  pull  Copy the state to a file.
  push  Replace the state with a file.
"""),
        "",
    )
    assert run("state", "lst") == (
        1,
        "",
        snapshot("""\
Error: no such command 'lst'. Did you mean 'list'?
  Run `planapply state --help`.
"""),
    )
