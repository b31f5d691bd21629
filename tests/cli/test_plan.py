"""planapply plan, show, and apply of saved plans: complete outputs."""

import json
import os
import stat
from pathlib import Path

import pytest
from cli.commands import Run, without_installed, without_origin
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.model.state import State


def test_plan_changes_nothing(run: Run, cloud: FakeCloud, folder: Path) -> None:
    result = run("plan")
    assert result == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   scheduler         small
  +   cpu-[0-2]   (3)   large

Plan: 4 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )
    assert os.listdir(folder) == ["planapply.toml"]
    assert not cloud.machines
    assert run("plan", "--detailed-exitcode").code == 2


def test_no_changes_and_a_changed_spec(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert run("plan", "--detailed-exitcode") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )
    changed = run(
        "plan",
        "--detailed-exitcode",
        "--set",
        "workers.cpu.count=1",
        "--set",
        'scheduler.size="large"',
    )
    assert changed == (
        2,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -/+ scheduler         large
        size            "small" -> "large"   (forces replacement)
  -/+ cpu-0             large
        (the scheduler is replaced)
  -   cpu-[1-2]   (2)   large
        (count 3 -> 1)

Plan: 2 to add, 0 to change, 4 to destroy.
Cost: 4.60 USD/h -> 3.00 USD/h (list prices of 2025-03-02)
"""),
        snapshot("""\

Warning: this plan terminates every worker: the results in their memory will be lost
  planapply cannot tell whether there are any: the scheduler does not answer. To keep them, save
  them first.
"""),
    )
    assert run("plan", "--replace", "cpu-[0-1]") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -/+ cpu-[0-1]   (2)   large
        (requested with --replace)

Plan: 2 to add, 0 to change, 2 to destroy.
Waves: 2 (cpu: 1 node at a time)
Cost: 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )
    assert run("plan", "--destroy", "--target", "cpu-2") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -   cpu-2   large

Plan: 0 to add, 0 to change, 1 to destroy.
Cost: 4.60 USD/h -> 3.10 USD/h (list prices of 2025-03-02)
"""),
        "",
    )


def test_json_matches_the_contract(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait")
    result = run(
        "plan", "--json", "--set", "workers.cpu.options={ nthreads = 2 }", "--target", "cpu-0"
    )
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == snapshot(
        {
            "format_version": 2,
            "cluster": "demo",
            "mode": "normal",
            "summary": {"add": 1, "change": 0, "destroy": 1},
            "changes": [
                {
                    "name": "cpu-0",
                    "action": "replace",
                    "reason_code": "fields_changed",
                    "reason": "options.nthreads changed",
                    "fields": [{"path": "options.nthreads", "before": None, "after": 2}],
                    "size": ["large"],
                    "spot": False,
                    "zone": [],
                    "image": None,
                    "ports": [],
                    "networks": [],
                    "tags": {},
                }
            ],
            "waves": [["cpu-0"]],
            "drift": [],
            "settings": [],
            "edited": [],
            "cost": {
                "before": 4.6,
                "after": 4.6,
                "highest": None,
                "limit": None,
                "unknown": [],
                "unknown_before": [],
                "source": "list prices of 2025-03-02",
                "not_counted": [],
            },
            "diagnostics": [],
        }
    )


def test_saved_plan_is_shown_and_applied_without_approval(
    run: Run, cloud: FakeCloud, folder: Path
) -> None:
    saved = run("plan", "--out", "the plan")
    assert saved.err == snapshot(
        """\

Saved the plan. To apply it, run `planapply apply 'the plan'`.
"""
    )
    assert stat.S_IMODE(os.stat("the plan").st_mode) == 0o600
    assert run("show", "the plan") == (0, saved.out, "")
    assert json.loads(run("show", "the plan", "--json").out)["summary"] == (
        {"add": 4, "change": 0, "destroy": 0}
    )
    assert run("apply", "the plan", "--no-wait").code == 0
    assert len(cloud.live_vms()) == 4
    assert run("apply", "the plan") == (
        1,
        "",
        snapshot("""\
Error: the plan file is stale: the serial of the state was 0, and is now 6
  To plan again: `planapply plan --out FILE`
"""),
    )
    assert sorted(os.listdir(folder)) == ["planapply.state.json", "planapply.toml", "the plan"]


def test_refresh_only_apply_records_drift(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait")
    assert run("plan", "--refresh-only") == (
        0,
        snapshot("""\
No changes. The state matches what exists.
Cost: 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )
    cloud.end_vm("i-0002")
    assert run("plan", "--refresh-only", "--detailed-exitcode") == (
        2,
        snapshot("""\
planapply will update the state of cluster "demo" (fake, mars):

  cpu-1   VM i-0002 is gone

No VM will be launched or terminated.
"""),
        snapshot(""),
    )
    assert run("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   cpu-1   large
        (VM i-0002 is gone)

Plan: 1 to add, 0 to change, 0 to destroy.
Cost: 3.10 USD/h -> 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )
    assert run("plan", "--no-refresh").out.startswith("No changes.")
    assert run("apply", "--refresh-only") == (
        0,
        snapshot("""\
planapply will update the state of cluster "demo" (fake, mars):

  cpu-1   VM i-0002 is gone

No VM will be launched or terminated.

Apply complete: the state is up to date.
"""),
        snapshot("   0:00  cpu-1: terminated\n"),
    )
    state = State.model_validate_json(Path("planapply.state.json").read_bytes())
    assert sorted(state.nodes) == ["cpu-0", "cpu-2", "scheduler"]
    assert len(cloud.machines) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--refresh-only", "--destroy"], "cannot combine --refresh-only with"),
        (["--refresh-only", "--no-refresh"], "cannot combine --refresh-only with"),
        (["--refresh-only", "--target", "cpu-0"], "cannot combine --refresh-only with"),
        (["--destroy", "--replace", "cpu-0"], "cannot combine --destroy with --replace"),
        (["--target", "gpu"], "there is no node 'gpu'"),
        (["--replace", "cpu-7"], "there is no node 'cpu-7'"),
        (["--target", "cpu-[0-9]"], "there are no nodes cpu-[3-9]\n"),
        (["--target", "cpu-[0..3]"], "there is no node cpu-3\n"),
        (["--target", "cpu-[0-1]", "--replace", "gpu-[0-1]"], "there are no nodes gpu-[0-1]\n"),
        (["--target", "cpu-[2-1]"], "'cpu-[2-1]' is not a range\n"),
        (["--replace", "cpu-[0,2]"], "'cpu-[0,2]' is not a range\n"),
        (["--set", "workers.cpu.count"], "--set workers.cpu.count: it has no `=`"),
        (["--set", 'cluster.name="a b"'], '`cluster.name` cannot be "a b"'),
        (["--file", "none.toml"], "the spec none.toml does not exist"),
        (["--state", "ftp://x/y"], "is not a valid location for a state"),
        (["--out", "none/plan"], "cannot save the plan to none/plan: No such file or directory"),
        (
            ["--out", "/dev/null"],
            "cannot save the plan to /dev/null: the file exists and is not a plan file",
        ),
        (["--destroy"], "there is no state at planapply.state.json"),
    ],
)
def test_invalid_plan_options_are_refused(
    run: Run, cloud: FakeCloud, arguments: list[str], said: str
) -> None:
    result = run("plan", *arguments)
    assert result.code == 1
    assert result.err.startswith("Error: ")
    assert said in result.err
    assert result.err.count("Error:") == 1


def test_replaced_nodes_must_be_targets(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    refused = run("plan", "--replace", "cpu", "--replace", "scheduler", "--target", "cpu-1")
    assert refused == (
        1,
        "",
        snapshot("""\
Error: cannot replace scheduler, cpu-0, cpu-2: not selected by --target
  Add --target scheduler --target cpu-0 --target cpu-2, or omit one of the two options.
"""),
    )
    arguments = ("--replace", "cpu-0", "--target", "cpu-1")
    refused = run("plan", *arguments)
    assert refused == (
        1,
        "",
        snapshot("""\
Error: cannot replace cpu-0: not selected by --target
  Add --target cpu-0, or omit one of the two options.
"""),
    )
    assert run("apply", "--auto-approve", *arguments) == refused
    assert run("plan", "--replace", "cpu-0", "--target", "cpu") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -/+ cpu-0   large
        (requested with --replace)

Plan: 1 to add, 0 to change, 1 to destroy.
Cost: 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )


@pytest.mark.parametrize("most", [0, 1])
def test_plan_explains_why_elastic_nodes_are_destroyed(
    run: Run, cloud: FakeCloud, most: int
) -> None:
    group = "workers.elastic={{ min = {}, max = {}, size = 'small' }}"
    assert run("apply", "--auto-approve", "--no-wait", "--set", group.format(2, 4)).code == 0
    result = run("plan", "--set", group.format(0, most))
    assert result == (
        0,
        {
            0: snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -   elastic-[0-1]   (2)   small
        (max is 0)

Plan: 0 to add, 0 to change, 2 to destroy.
Edited since the last apply: workers.elastic.min 2 -> 0
Edited since the last apply: workers.elastic.max 4 -> 0
Cost: 4.80 USD/h -> 4.60 USD/h (list prices of 2025-03-02)
Elastic: elastic will have no nodes (min 0, max 0); its size changes only through `scale` and
`adapt`.
"""),
            1: snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -   elastic-1   small
        (max is 1)

Plan: 0 to add, 0 to change, 1 to destroy.
Edited since the last apply: workers.elastic.min 2 -> 0
Edited since the last apply: workers.elastic.max 4 -> 1
Cost: 4.80 USD/h -> 4.70 USD/h (list prices of 2025-03-02)
Elastic: elastic will have 1 node (min 0, max 1); its size changes only through `scale` and `adapt`.
"""),
        }[most],
        "",
    )


def test_all_problems_of_a_spec_are_reported_at_once(run: Run, cloud: FakeCloud) -> None:
    Path("planapply.toml").write_text(
        '[cluster]\nname = "demo"\nprovider = "fakee"\nttl = "soon"\n\n[workers.cpu]\ncuont = 3\n'
    )
    for command in ("plan", "validate"):
        result = run(command)
        assert (result.code, without_installed(result.err)) == (
            1,
            snapshot("""\
Error: unknown provider 'fakee'
 --> planapply.toml:3:1
  |
3 | provider = "fakee"
  | ^^^^^^^^
  Did you mean 'fake'? Installed: …

Error: `cluster.ttl` cannot be "soon": this is not a duration
 --> planapply.toml:4:1
  |
4 | ttl = "soon"
  | ^^^
  Write a number and a unit (s, min, h, d, w), such as "30 min".

Error: [workers.cpu] has no number of nodes
 --> planapply.toml:6:10
  |
6 | [workers.cpu]
  |          ^^^
  Add `count`, such as `count = 2`; or `min` and `max`, such as `min = 0` and `max = 10`.

Error: [workers.cpu] has no key `cuont`
 --> planapply.toml:7:1
  |
7 | cuont = 3
  | ^^^^^
  Did you mean `count`?
"""),
        )


def test_plan_above_max_cost_is_refused(run: Run, cloud: FakeCloud) -> None:
    assert run("plan", "--set", "cluster.max_cost=1.0") == (
        1,
        "",
        snapshot("""\
Error: the cluster would cost 4.60 USD/h, more than `max_cost` (1.00)
  Make the cluster smaller, or raise `max_cost` under [cluster].
"""),
    )


def test_warnings_are_printed_below_the_plan_and_in_its_json(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait")
    Path("planapply.state.json").unlink()
    result = run("plan")
    assert result.code == 0
    assert without_origin(result.err) == snapshot(
        "Warning: cannot create cluster 'demo': N VMs of a cluster with this name exist There is no state of it at planapply.state.json. By its tags, it was launched on DATE by WHO with the state STATE. To change that cluster, pass its state with --state, or set `state` under [cluster]. To create another cluster, choose another `name`, or pass --new-cluster to `planapply apply`. If the state of that cluster is lost, rebuild it with `planapply recover`."
    )
    assert [d["severity"] for d in json.loads(run("plan", "--json").out)["diagnostics"]] == (
        ["warning"]
    )


def test_settings_that_an_apply_records_are_shown(run: Run, cloud: FakeCloud) -> None:
    assert run("apply", "--auto-approve", "--no-wait", "--set", "cluster.protect=true").code == 0
    planned = run("plan", "--detailed-exitcode")
    assert planned == (
        2,
        snapshot("""\
No nodes change. Cluster "demo" has the nodes and resources of its spec.
Settings: protect true -> false (recorded by apply)
Cost: 4.60 USD/h (list prices of 2025-03-02)
"""),
        "",
    )
    assert json.loads(run("plan", "--json").out)["settings"] == [
        {"path": "protect", "before": True, "after": False}
    ]
    assert run("plan", "--refresh-only").out == snapshot("""\
No nodes change. The state matches what exists.
Settings: protect true -> false (recorded by apply)
Cost: 4.60 USD/h (list prices of 2025-03-02)
""")
    assert run("destroy", "--auto-approve").code == 1
    assert run("apply", "--no-wait").out == snapshot("""\
No nodes change. Cluster "demo" has the nodes and resources of its spec.
Settings: protect true -> false (recorded by apply)
Cost: 4.60 USD/h (list prices of 2025-03-02)

The state is up to date.

scheduler_address = tcp://127.0.0.1:1
""")
    assert run("plan", "--detailed-exitcode").code == 0
    assert run("destroy", "--auto-approve").code == 0


def test_edits_that_change_no_node_are_shown(run: Run, cloud: FakeCloud) -> None:
    spec = Path("planapply.toml")
    elastic = """
[workers.burst]
min = 0
max = 2
size = "small"
options = { nthreads = 1, env = { API_TOKEN = "hunter1" } }
"""
    spec.write_text(spec.read_text() + elastic)
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    for old, new in (
        ("max = 2", "max = 5"),
        ("nthreads = 1, env", "nthreads = 2, env"),
        ("hunter1", "hunter2"),
    ):
        spec.write_text(spec.read_text().replace(old, new))
    limits = ("--set", "cluster.join_timeout='5 min'", "--set", "cluster.max_cost=10.0")
    assert run("plan", "--detailed-exitcode", *limits) == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Edited since the last apply: workers.burst.max 2 -> 5
Edited since the last apply: workers.burst.options.nthreads 1 -> 2
Edited since the last apply: workers.burst.options.env changed
Edited since the last apply: cluster.max_cost (unset) -> 10.0
Edited since the last apply: cluster.join_timeout (unset) -> 5 min
Cost: 4.60 USD/h (list prices of 2025-03-02)
Elastic: burst has no nodes (min 0, max 5); its size changes only through `scale` and `adapt`.
"""),
        "",
    )
    planned = run("plan", "--json").out
    assert "hunter" not in planned
    assert json.loads(planned)["edited"] == snapshot(
        [
            {"path": "workers.burst.max", "before": 2, "after": 5},
            {"path": "workers.burst.options.nthreads", "before": 1, "after": 2},
            {
                "path": "workers.burst.options.env",
                "before": {"API_TOKEN": "(hidden)"},
                "after": {"API_TOKEN": "(hidden)"},
            },
        ]
    )
    assert run("apply", "--no-wait").code == 0
    assert "Edited since" not in run("plan").out


def test_settings_of_the_provider_are_recorded_with_other_changes(
    run: Run, cloud: FakeCloud
) -> None:
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    spec = Path("planapply.toml")
    spec.write_text(
        spec.read_text().replace('region = "mars"', "").replace("count = 3", "count = 4")
    )
    assert run("plan").out == snapshot("""\
planapply will change cluster "demo" (fake):

  +   cpu-3   large

Plan: 1 to add, 0 to change, 0 to destroy.
Settings: provider.region "mars" -> (unset) (recorded by apply)
Cost: 4.60 USD/h -> 6.10 USD/h (list prices of 2025-03-02)
""")
