"""Local clusters that earlier code has started: processes with its keeper, environments, orders."""

import json
from pathlib import Path

import pytest
from cli.commands import Run
from compat.kept import LOCK, SPEC, STATE
from compat.local import LocalSite, eventually, revived
from compat.test_locks import held

import planapply

pytestmark = pytest.mark.slow


def joined(site: LocalSite) -> bool:
    """Return whether the scheduler knows every node."""
    nodes = json.loads(site.run("status", "--json").out)["nodes"]
    return all(node["joined"] == node.get("processes", 1) for node in nodes)


def test_a_running_cluster_is_used_scaled_changed_and_destroyed(run: Run) -> None:
    with revived("local-plain", "applied", run, 3) as site:
        state = Path(STATE).read_bytes()
        eventually(lambda: joined(site), "the end of all joins")
        assert site.run("plan", "--detailed-exitcode").out.startswith("No changes. ")
        assert json.loads(site.run("status", "--json").out)["drift"] == []
        assert Path(STATE).read_bytes() == state
        before = site.in_state()
        assert set(before.values()) == site.ids()
        with planapply.connect(SPEC) as client:
            assert client.submit(sum, [1, 2], resources={"SSD": 1}).result() == 3

        with planapply.Cluster.from_spec(SPEC) as cluster:
            cluster.scale(2, group="burst")
            cluster.sync(lambda: cluster)
        scaled = site.in_state()
        assert scaled.items() > before.items()
        assert scaled.keys() - before.keys() == {"burst-1"}
        assert set(scaled.values()) == site.ids()

        path = Path(SPEC)
        path.write_text(path.read_text().replace("count = 1", "count = 2").replace("bio", "new"))
        site.run("apply", "--auto-approve")
        applied = site.in_state()
        assert applied.keys() - scaled.keys() == {"cpu-1"}
        assert scaled.items() < applied.items()
        assert set(applied.values()) == site.ids()
        site.run("plan", "--detailed-exitcode")
        site.run("destroy", "--auto-approve")
        site.nothing_is_left()


def test_a_lost_state_is_rebuilt_from_the_processes(run: Run) -> None:
    with revived("local-tls", "applied", run, 3) as site:
        eventually(lambda: joined(site), "the end of all joins")
        before = site.in_state()
        Path(STATE).unlink()
        site.run("recover")
        assert site.in_state() == before
        assert site.run("plan", "--detailed-exitcode").out.startswith("No changes. ")
        with planapply.connect(SPEC) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        site.run("destroy", "--auto-approve")
        site.nothing_is_left()


def test_an_apply_that_was_killed_is_completed(run: Run) -> None:
    with revived("local-plain", "workers-made", run, 2) as site:
        [*started] = site.ids()
        lock = json.loads((site.kept / "workers-made.lock").read_text())
        applied = site.run("apply", "--auto-approve")
        assert lock["id"] in applied.err
        nodes = site.in_state()
        assert nodes.keys() == {"scheduler", "cpu-0", "burst-0"}
        assert set(nodes.values()) == site.ids() > set(started)
        site.run("plan", "--detailed-exitcode")
        site.run("destroy", "--auto-approve")
        site.nothing_is_left()


def test_an_apply_that_was_killed_is_destroyed(run: Run) -> None:
    with revived("local-tls", "workers-made", run, 2) as site:
        Path(SPEC).unlink()
        site.run("destroy", "--auto-approve", "--state", STATE)
        assert site.processes() == []
        assert json.loads(site.run("show", "--json", "--state", STATE).out)["nodes"] == {}


def test_one_process_at_a_time_is_adaptive(run: Run) -> None:
    with revived("local-plain", "applied", run, 3) as site:
        eventually(lambda: joined(site), "the end of all joins")
        with (
            held(LOCK.replace(".lock", ".adaptive.lock")) as process,
            planapply.Cluster.from_spec(SPEC) as cluster,
            pytest.raises(Exception, match=f"process {process.pid}"),
        ):
            cluster.adapt(group="burst")
        # It was killed: the next one may.
        with planapply.Cluster.from_spec(SPEC) as cluster:
            cluster.adapt(group="burst")
        site.run("destroy", "--auto-approve")
        site.nothing_is_left()
