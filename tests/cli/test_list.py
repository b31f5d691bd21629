"""planapply list."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from cli.commands import AGE, SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.store import open_store


def fixed(text: str) -> str:
    """Return the output without parts that vary."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "LINEAGE", text)


@pytest.fixture
def three(run: Run, cloud: FakeCloud, folder: Path) -> FakeCloud:
    """Clusters of one account, whose states are here, elsewhere, and lost."""
    for name, count in (("demo", 3), ("beside", 1), ("lost", 0)):
        text = SPEC.replace('"demo"', f'"{name}"').replace("count = 3", f"count = {count}")
        Path(f"{name}.toml").write_text(text)
        arguments = ["-f", f"{name}.toml", "--auto-approve", "--no-wait"]
        assert run("apply", *arguments).code == 0
    os.replace("demo.toml", "planapply.toml")
    os.replace("demo.state.json", "planapply.state.json")
    os.unlink("lost.state.json")
    launched_at = time.time() - AGE
    for machine in cloud.machines.values():
        machine.vm = machine.vm.model_copy(update={"launched_at": launched_at})
    return cloud


def test_lists_clusters_with_and_without_a_state(run: Run, three: FakeCloud) -> None:
    vm = next(vm for vm in three.live_vms() if vm.name == "cpu-2")
    three.machines[vm.id].stopping_at = 0.0
    result = run("list")
    assert (result.code, fixed(result.out), result.err) == (
        0,
        snapshot("""\
Clusters (fake, account fake):

  beside   2 nodes                    3 h 20 min   1.60 USD/h   state in beside.state.json      LINEAGE
  demo     3 nodes, 1 shutting down   3 h 20 min   3.10 USD/h   state in planapply.state.json   LINEAGE
  lost     1 node                     3 h 20 min   0.10 USD/h   state elsewhere or lost         LINEAGE

Prices: list prices of 2025-03-02

planapply cannot tell whether a missing state is elsewhere or lost. If it is elsewhere, pass its
location with --state; if it is lost, rebuild it with `planapply recover NAME`.
"""),
        "",
    )
    document = json.loads(run("list", "--json").out)
    ages = [cluster.pop("age") for cluster in document["clusters"]]
    assert all(AGE <= age < AGE + 600 for age in ages)
    assert json.loads(fixed(json.dumps(document))) == snapshot(
        {
            "provider": "fake",
            "cloud": {"account": "fake"},
            "clusters": [
                {
                    "cluster": "beside",
                    "lineage": "LINEAGE",
                    "nodes": 2,
                    "stopping": 0,
                    "usd_per_hour": 1.6,
                    "unpriced": 0,
                    "state": "beside.state.json",
                },
                {
                    "cluster": "demo",
                    "lineage": "LINEAGE",
                    "nodes": 3,
                    "stopping": 1,
                    "usd_per_hour": 3.1,
                    "unpriced": 0,
                    "state": "planapply.state.json",
                },
                {
                    "cluster": "lost",
                    "lineage": "LINEAGE",
                    "nodes": 1,
                    "stopping": 0,
                    "usd_per_hour": 0.1,
                    "unpriced": 0,
                    "state": None,
                },
            ],
            "looked_at": ["planapply.state.json", "beside.state.json"],
            "price_source": "list prices of 2025-03-02",
            "diagnostics": [],
        }
    )


def test_list_works_without_a_spec(run: Run, three: FakeCloud, tmp_path: Path) -> None:
    place = str(Path("beside.state.json").absolute())
    (tmp_path / "empty").mkdir()
    os.chdir(tmp_path / "empty")
    assert run("list") == (
        1,
        "",
        snapshot("""\
Error: the spec planapply.toml does not exist
  Select a spec with --file; or select a provider with --provider NAME, and pass its settings with
  `--set 'provider.KEY=VALUE'`.
"""),
    )
    said = run("list", "--provider", "fake", "--set", 'provider.region="mars"', "--state", place)
    assert (said.code, said.err) == (0, "")
    told = dict(line.split(maxsplit=1) for line in fixed(said.out).splitlines()[2:5])
    assert "state elsewhere or lost" in told["demo"]
    assert f"state in {place}" in told["beside"]
    assert run("list", "--provider", "fake", "--set", "provider.planet=1") == (
        1,
        "",
        snapshot("""\
Error: --set provider.planet: [provider] has no key `planet`
  Remove it. The only valid key is `region`.
"""),
    )
    assert run("list", "--provider", "fak") == (
        1,
        "",
        snapshot("""\
Error: unknown provider 'fak'
  Did you mean 'fake'? Installed: ec2, fake, libcloud, local.
"""),
    )


def test_unreadable_state_hides_no_cluster(run: Run, three: FakeCloud) -> None:
    Path("beside.state.json").write_text("not JSON")
    result = run("list")
    assert result.code == 0
    assert "beside   2 nodes" in result.out
    assert result.err == snapshot("""\
Warning: cannot read the state beside.state.json
  It is damaged, or not JSON (8 bytes): expected ident at line 1 column 2.
  The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from
  the VMs' tags with `planapply recover`.
""")


def test_unknown_prices(run: Run, three: FakeCloud) -> None:
    for machine in three.machines.values():
        size = {"scheduler": "small", "cpu-0": "huge"}.get(str(machine.vm.name), "huge")
        machine.vm = machine.vm.model_copy(update={"size": size})
    three.machines["i-0006"].vm = three.machines["i-0006"].vm.model_copy(update={"size": "huge"})
    assert fixed(run("list").out) == snapshot("""\
Clusters (fake, account fake):

  beside   2 nodes   3 h 20 min   at least 0.10 USD/h   state in beside.state.json      LINEAGE
  demo     4 nodes   3 h 20 min   at least 0.10 USD/h   state in planapply.state.json   LINEAGE
  lost     1 node    3 h 20 min   price unknown         state elsewhere or lost         LINEAGE

Prices: list prices of 2025-03-02

planapply cannot tell whether a missing state is elsewhere or lost. If it is elsewhere, pass its
location with --state; if it is lost, rebuild it with `planapply recover NAME`.
""")


def test_no_clusters(run: Run, cloud: FakeCloud) -> None:
    assert run("list") == (0, snapshot("No clusters (fake, account fake).\n"), "")


def test_locked_state_is_read(run: Run, three: FakeCloud) -> None:
    with open_store("planapply.state.json").lock("a test"):
        assert "state in planapply.state.json" in run("list").out
