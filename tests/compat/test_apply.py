"""Clusters of earlier code: changed, completed, recovered, and destroyed without leftovers."""

import json
import os
from pathlib import Path

import pytest
from cli.commands import Run
from compat.kept import AGE, FIXTURES, LOCK, SPEC, STATE, Site, exports, revived
from order import few

pytestmark = pytest.mark.slow

FULL = {"scheduler", "cpu-0", "cpu-1", "big-0", "spot-0", "spot-1", "spot-2"}


def new(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the nodes whose VM is new."""
    return {name for name, vm in after.items() if before.get(name) != vm}


def check(site: Site) -> None:
    """Compare the state with the cloud and the spec; destroy the cluster, which must leave nothing."""
    assert site.in_state() == site.vms()
    site.has_no_changes()
    assert not Path(LOCK).exists()
    site.destroy()
    site.nothing_is_left()


@pytest.mark.parametrize("saved", [False, True], ids=["spec", "plan-file"])
@pytest.mark.parametrize(
    ("cluster", "launched"),
    [
        ("ec2-full", {"cpu-0", "cpu-1", "burst-2"}),
        ("ec2-plain", {"cpu-1"}),
        ("libcloud-ec2", {"cpu-2"}),
    ],
)
def test_a_changed_spec_is_applied(cluster: str, launched: set[str], saved: bool, run: Run) -> None:
    with revived(cluster, "applied", run) as site:
        before = site.vms()
        site.spec("changed")
        plan = str(site.kept / "changed.plan.json")
        planned = json.loads(site.run("plan", "--json").out)["changes"]
        shown = json.loads(site.run("show", plan, "--json").out)["changes"]
        key = lambda change: (change["name"], change["action"])  # noqa: E731
        assert [*map(key, shown)] == [*map(key, planned)]
        assert launched <= {change["name"] for change in planned}
        site.run("show", plan)
        site.apply_in_waves(*([plan] if saved else []))
        after = site.vms()
        assert new(before, after) == launched
        assert before.keys() <= after.keys()
        stages = {vm["tags"].get("stage") for vm in site.cloud.instances()}
        assert stages == ({None} if cluster == "ec2-plain" else {None, "live"})
        if saved:
            assert "stale" in site.apply(plan, code=1).err
        check(site)


def test_a_saved_plan_of_some_nodes(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        before = site.vms()
        site.apply(str(site.kept / "target.plan.json"))
        assert new(before, site.vms()) == {"cpu-1"}
        assert site.vms().keys() == before.keys()
        check(site)


def test_a_saved_plan_with_overrides(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        before = site.vms()
        site.apply(str(site.kept / "set.plan.json"))
        assert new(before, site.vms()) == {"cpu-2"}
        site.run("plan", "--detailed-exitcode", "--set", "workers.cpu.count=3")
        site.run("plan", "--detailed-exitcode", code=2)


def test_a_saved_plan_to_destroy(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        Path(SPEC).unlink()
        site.apply(str(site.kept / "destroy.plan.json"), "--state", STATE)
        assert site.cloud.instances() == []
        Path(SPEC).write_bytes((site.kept / SPEC).read_bytes())
        site.nothing_is_left()


def test_a_saved_plan_to_refresh_only(run: Run) -> None:
    with revived("ec2-full", "lost", run) as site:
        assert "cpu-0" in site.in_state()
        plan = str(site.kept / "refresh-only.plan.json")
        assert "cpu-0" in "".join(site.run("show", plan)[1:])
        site.apply(plan)
        assert site.in_state() == site.vms()
        assert "cpu-0" not in site.vms()
        assert site.writes() in ([], ["TerminateInstances"])
        site.apply()
        assert "cpu-0" in site.vms()
        check(site)


def test_a_plan_saved_before_there_was_a_state(run: Run) -> None:
    with revived("ec2-full", "first", run) as site:
        site.spec("first")
        assert site.cloud.instances() == []
        site.apply(str(site.kept / "first.plan.json"))
        assert site.vms().keys() == FULL | {"burst-0"}
        check(site)


def test_a_plan_file_of_another_state_is_refused(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        for name in ("first", "refresh-only"):
            site.apply(str(site.kept / f"{name}.plan.json"), code=0 if name != "first" else 1)
        other = str(FIXTURES / "libcloud-ec2" / "changed.plan.json")
        site.apply(other, code=1)
        assert site.writes() == []


MADE = {
    "group-asked": set[str](),
    "group-made": set[str](),
    "scheduler-asked": set[str](),
    "scheduler-made": {"scheduler"},
    "workers-asked": {"scheduler"},
    "workers-made": {"scheduler", "cpu-0", "cpu-1", "big-0", "spot-0", "spot-2"},
}
"""The nodes that have a VM at each moment at which the first apply was killed."""


HIDDEN = [(moment, 20.0) for moment in ("scheduler-made", "workers-made")]
"""Moments, and the seconds in which the cloud does not show their new VMs."""


@pytest.mark.parametrize(
    ("moment", "hidden"), few([*HIDDEN, *((moment, 0.0) for moment in MADE)], 4)
)
def test_an_apply_that_was_killed_is_completed(moment: str, hidden: float, run: Run) -> None:
    age = 10.0 if hidden else AGE
    with revived("ec2-full", moment, run, age, hidden_seconds=hidden) as site:
        site.cloud.configure(hidden_seconds=0.0)  # for what is launched from now on
        before = site.vms()
        assert before.keys() == MADE[moment]
        applied = site.apply()
        lock = json.loads((site.kept / f"{moment}.lock").read_text())
        assert lock["id"] in applied.err  # of the process that was killed
        after = site.vms()
        # The number of an elastic node is never given twice, and 0 was planned.
        burst = "burst-0" if moment.startswith("workers") else "burst-1"
        assert after.keys() == FULL | {burst}
        assert new(before, after) == after.keys() - before.keys()
        check(site)


@pytest.mark.parametrize(
    ("moment", "settings"),
    few(
        [
            *((moment, {"hidden_seconds": seconds}) for moment, seconds in HIDDEN),
            ("ending-begun", {"ending_seconds": 30.0}),
            *((moment, {}) for moment in ("ending-asked", "group-left", "lost", "applied", *MADE)),
        ],
        7,
    ),
)
def test_destroy_leaves_nothing(moment: str, settings: dict[str, float], run: Run) -> None:
    age = 10.0 if settings else AGE
    with revived("ec2-full", moment, run, age, **settings) as site:
        Path(SPEC).unlink()
        site.run("destroy", "--auto-approve", "--state", STATE)
        Path(SPEC).write_bytes((site.kept / SPEC).read_bytes())
        site.nothing_is_left()


@pytest.mark.parametrize("moment", ["ending-asked", "ending-begun", "group-left", "destroyed"])
def test_a_destroyed_cluster_is_applied_again(moment: str, run: Run) -> None:
    with revived("ec2-full", moment, run) as site:
        before = site.vms()
        site.apply()
        after = site.vms()
        assert after.keys() - {"burst-1", "burst-2"} == FULL
        assert len(after) == len(FULL) + 1
        # Until its workers had ended, the scheduler was not asked to.
        assert ("scheduler" in new(before, after)) is ("scheduler" not in before)
        assert new(before, after) >= FULL - {"scheduler"}
        check(site)


def test_a_libcloud_apply_that_was_killed_is_completed(run: Run) -> None:
    with revived("libcloud-ec2", "worker-made", run) as site:
        before = site.vms()
        assert before.keys() == {"scheduler", "cpu-0"}
        site.apply()
        after = site.vms()
        assert after.keys() == {"scheduler", "cpu-0", "cpu-1", "burst-0"}
        assert new(before, after) == {"cpu-1", "burst-0"}
        check(site)


def test_a_destroyed_libcloud_cluster_is_applied_again(run: Run) -> None:
    with revived("libcloud-ec2", "destroyed", run) as site:
        assert site.vms() == {}
        site.apply()
        assert len(site.vms()) == 4
        check(site)


def test_a_protected_cluster_stays(run: Run) -> None:
    with revived("ec2-plain", "applied", run) as site:
        before = site.vms()
        site.run("destroy", "--auto-approve", code=1)
        site.run("destroy", "--auto-approve", "--state", "s3://lab-states/plain.json", code=1)
        site.apply("--set", "workers.cpu.count=0", code=1)
        site.apply("--replace", "scheduler", code=1)
        assert site.vms() == before
        assert site.writes() == []


@pytest.mark.parametrize("cluster", ["ec2-full", "libcloud-ec2"])
def test_a_lost_state_is_rebuilt_from_the_tags(cluster: str, run: Run) -> None:
    with revived(cluster, "applied", run) as site:
        before = site.vms()
        tls = json.loads((site.kept / "applied.state.json").read_text())["tls"]
        Path(STATE).unlink()
        assert "recover" in site.run("plan").err
        site.run("recover", "--json")
        assert site.in_state() == site.vms() == before
        site.has_no_changes()
        if cluster == "ec2-full":  # Libcloud shows no VM's user data
            files = exports(site.run("env").out)
            key = Path(files["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"]).read_text()
            certificate = Path(files["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"]).read_text()
            assert (key, certificate) == (tls["key"], tls["certificate"])
        site.apply()
        assert site.vms() == before
        check(site)


def test_a_lost_state_is_rebuilt_without_a_spec(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        before = site.vms()
        Path(STATE).unlink()
        Path(SPEC).unlink()
        provider = ("--provider", "ec2", "--set", 'provider.region="eu-west-1"')
        site.run("recover", "genomics", *provider, "--state", STATE)
        found = json.loads(site.run("show", "--json", "--state", STATE).out)
        assert {name: node["vm"] for name, node in found["nodes"].items()} == before
        site.run("destroy", "--auto-approve", "--state", STATE)
        Path(SPEC).write_bytes((site.kept / SPEC).read_bytes())
        site.nothing_is_left()


def test_a_bucket_state_is_rebuilt_from_the_tags(run: Run) -> None:
    with revived("ec2-plain", "applied", run) as site:
        before = site.vms()
        site.run("recover", "--set", 'cluster.state="other.json"')
        site.run("plan", "--detailed-exitcode", "--state", "other.json")
        assert site.vms() == before
        assert "other.json" in os.listdir()


def test_a_network_is_added_to_a_kept_security_group(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        site.run("allow", "192.0.2.0/24")
        site.has_no_changes()
        allowed = Path(STATE).read_text()
        assert "192.0.2.0/24" in allowed
        assert "198.51.100.0/24" in allowed
        site.apply("--set", 'provider.allow_from=["203.0.113.128/25"]')
        assert site.writes()[-1] == "RevokeSecurityGroupIngress"
