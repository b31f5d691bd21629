"""A spec in a stock `distributed.SpecCluster`, whose VMs are recorded in the spec's state."""

from pathlib import Path

import pytest
from cluster.conftest import SPEC, Open
from cluster.inprocess import Cloud
from distributed import Client, SpecCluster

import planapply
from planapply import VMScheduler, VMWorker
from planapply.api.spec import LoadedSpec
from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import Resource
from planapply.ops.plan import plan

TEXT = (
    SPEC.replace("min = 0", "min = 1")
    + '[workers.io]\ncount = 1\nclass = "distributed.Worker"\nprocesses = 2\n'
)


def stop_loops(but: SpecCluster | None = None) -> None:
    """Stop the loops of stock SpecClusters: one whose constructor fails leaves its thread running."""
    for cluster in [*SpecCluster._instances]:
        if cluster is not but:
            cluster._loop_runner.stop()


def test_names_classes_and_groups(workspace: Open) -> None:
    spec = LoadedSpec.from_workspace(workspace(TEXT)).cluster_spec()
    assert [*spec] == ["scheduler", "workers"]
    assert spec["scheduler"]["cls"] is VMScheduler
    assert {name: entry["cls"] for name, entry in spec["workers"].items()} == {
        "cpu-0": VMWorker,
        "io-0": VMWorker,
    }
    assert spec["workers"]["io-0"]["group"] == ["-0", "-1"]
    assert "group" not in spec["workers"]["cpu-0"]


def test_runs_in_a_stock_spec_cluster(cloud: Cloud, workspace: Open) -> None:
    spec = LoadedSpec.from_workspace(workspace(TEXT)).cluster_spec()
    assert cloud.names() == []
    assert workspace(TEXT).store.read() is None
    with SpecCluster(**spec) as cluster, Client(cluster) as client:
        client.wait_for_workers(3)
        assert client.submit(sum, [1, 2]).result() == 3
        assert cluster.plan == cluster.observed == {"cpu-0", "io-0-0", "io-0-1"}
        assert cloud.names() == ["cpu-0", "io-0", "scheduler"]
        # The command line sees no changes, and the address of the scheduler.
        state = workspace(TEXT).read()
        assert state.endpoint is not None
        assert state.endpoint.private == cloud.scheduler.address
        assert not plan(workspace(TEXT)).plan.changes
    assert cloud.names() == []
    state = workspace(TEXT).read()
    assert state.is_empty
    assert state.endpoint is None


def test_existing_cluster_is_not_launched_again(cloud: Cloud, applied: Open) -> None:
    spec = LoadedSpec.from_workspace(applied(TEXT))
    with pytest.raises(PlanapplyError, match="cannot launch cluster 'zoo': it exists already"):
        spec.cluster_spec()
    assert cloud.calls["launch"] == 3


def test_two_processes_launch_one_cluster(cloud: Cloud, workspace: Open) -> None:
    first = LoadedSpec.from_workspace(workspace(TEXT)).cluster_spec()
    second = LoadedSpec.from_workspace(workspace(TEXT)).cluster_spec()
    with SpecCluster(**first) as cluster:
        names = cloud.names()
        with pytest.raises(RuntimeError, match="scheduler: the node already exists"):
            SpecCluster(**second)
        stop_loops(but=cluster)
        # The second one had no nodes to close.
        assert cloud.names() == names
        assert cloud.calls["terminate"] == 0


def test_protected_cluster_is_refused(workspace: Open) -> None:
    spec = LoadedSpec.from_workspace(workspace(TEXT.replace('"zoo"', '"zoo"\nprotect = true')))
    with pytest.raises(PlanapplyError, match="cannot launch cluster 'zoo': it is protected"):
        spec.cluster_spec()


def test_supporting_resources_are_created_and_removed(cloud: Cloud, workspace: Open) -> None:
    class Guarded(Cloud):
        """A cloud whose clusters need a supporting resource."""

        def required_resources(self, cluster: str, config: object) -> dict[str, Resource]:
            return {"wall": Resource(kind="wall")}

        def prepare(self, name: str, resource: Resource, tags: object) -> Resource:
            walls.append(name)
            return Resource(kind="wall", id="w-1")

        def find_resources(self, tags: object) -> dict[str, Resource]:
            return {name: Resource(kind="wall", id="w-1") for name in walls}

        def cleanup(self, resource: Resource) -> None:
            walls.clear()

    walls: list[str] = []
    cloud.__class__ = Guarded
    with SpecCluster(**LoadedSpec.from_workspace(workspace(TEXT)).cluster_spec()):
        assert walls == ["wall"]
        assert workspace(TEXT).read().resources["wall"].id == "w-1"
    assert walls == []
    assert workspace(TEXT).read().is_empty


def test_failed_launch_leaves_nothing(cloud: Cloud, workspace: Open) -> None:
    cloud.refused_names = {"scheduler"}
    with pytest.raises(RuntimeError, match="no capacity is left") as raised:
        SpecCluster(**LoadedSpec.from_workspace(workspace(TEXT)).cluster_spec())
    assert isinstance(raised.value.__cause__, PlanapplyError)
    assert cloud.names() == []
    assert workspace(TEXT).read().is_empty
    stop_loops()


def test_load_spec(tmp_path: Path, workspace: Open) -> None:
    path = tmp_path / "farm.toml"
    path.write_text('[cluster]\nname = "farm"\n[workers.cpu]\ncount = 2\n')
    spec = planapply.load_spec(path, overrides=["workers.cpu.count=3"])
    assert spec.cluster.name == "farm"
    assert spec.workers["cpu"].count == 3
    assert len(spec.cluster_spec()["workers"]) == 3
    # Which fields were set is known, as for the spec that the command line reads.
    opened = workspace(TEXT)
    assert opened.spec is not None
    assert LoadedSpec.from_workspace(opened).digest == opened.spec.digest


def test_load_spec_reports_all_problems(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text('[cluster]\nname = "no good"\n[workers.cpu]\ncount = -1\n')
    with pytest.raises(PlanapplyError) as raised:
        planapply.load_spec(path)
    assert len(raised.value.diagnostics) == 2


def test_load_spec_warns(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text('[cluster]\nname = "farm"\n[workers.cpu]\ncount = 2\nsize = "large"\n')
    with pytest.warns(UserWarning, match="ignores `workers.cpu.size`"):
        planapply.load_spec(path)


ONE_GROUP = SPEC.replace("min = 0", "min = 1")


def test_stock_spec_cluster_scales(cloud: Cloud, workspace: Open) -> None:
    spec = LoadedSpec.from_workspace(workspace(ONE_GROUP)).cluster_spec()
    with SpecCluster(**spec) as cluster, Client(cluster) as client:
        cluster.scale(3)
        client.wait_for_workers(3)
        assert cloud.names() == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
        cluster.scale(1)
        cluster.sync(cluster._correct_state)
        assert cloud.names() == ["cpu-0", "scheduler"]
    assert cloud.names() == []


def test_template_selects_the_group(cloud: Cloud, workspace: Open) -> None:
    loaded = LoadedSpec.from_workspace(workspace(TEXT))
    assert "worker" not in loaded.cluster_spec()
    with SpecCluster(**loaded.cluster_spec(template="io")) as cluster, Client(cluster) as client:
        cluster.scale(3)  # SpecCluster counts entries of its spec: nodes
        client.wait_for_workers(5)
        assert cloud.names() == ["cpu-0", "io-0", "io-1", "scheduler"]
    with pytest.raises(
        ValueError,
        match=r"cannot use group 'gpu' as a template: there is no such group\. Groups: cpu, io\.",
    ):
        loaded.cluster_spec(template="gpu")
