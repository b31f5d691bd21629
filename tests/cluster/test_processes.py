"""A real cluster of the provider `local`, with TLS, used by several processes."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from cluster.helpers import apply_pending, wait_until

import planapply
from planapply import Cluster
from planapply.model.diagnostics import PlanapplyError
from planapply.model.plan import Mode
from planapply.ops.apply import apply
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.workspace import Workspace

pytestmark = pytest.mark.slow

SPEC = """
[cluster]
name = "farm-{number}"
security = "tls"

[provider]
folder = "{folder}"

[workers.cpu]
min = 1
max = 4
class = "distributed.Worker"
options = {{ nthreads = 1 }}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The spec of a running cluster, of which no process is left after the tests."""
    folder = tmp_path_factory.mktemp("farm")
    path = folder / "farm.toml"
    path.write_text(SPEC.format(number=uuid.uuid4().hex[:12], folder=folder / "vms"))
    report = apply(Workspace.from_spec(str(path)), lambda plan: True)
    assert not report.failures
    yield path
    destroy(path)
    assert not processes(folder)


def destroy(path: Path) -> None:
    options = PlanOptions(mode=Mode.DESTROY)
    assert not apply(Workspace.from_spec(str(path)), lambda plan: True, options).failures


def processes(folder: Path) -> list[psutil.Process]:
    """Return the processes of VMs in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder / "vms") in process.environ().get("DASK_TEMPORARY_DIRECTORY", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def nodes(path: Path) -> list[str]:
    return sorted(Workspace.from_spec(str(path)).read().nodes)


def no_changes(path: Path) -> bool:
    return not plan(Workspace.from_spec(str(path))).plan.changes


@contextmanager
def session(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a Python session in another process, controlled through its stdin and stdout."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(code: str, *args: object) -> tuple[str, str]:
    """Run a whole session, and return its stdout and stderr."""
    with session(code, *args) as process:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out, err


ELSEWHERE = """
import sys
import planapply

path, log = sys.argv[1:]

def work(number):
    with open(log, "a") as file:
        file.write(f"{number}\\n")
    return number

if __name__ == "__main__":
    with planapply.connect(path) as client:
        assert client.submit(work, 0).result() == 0
    with planapply.Cluster.from_spec(path) as cluster, cluster.get_client() as client:
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=120)
        futures = client.map(work, range(1, 11))
        client.gather(futures)
        cluster.scale(4)
        cluster.wait_for_workers(4, timeout=120)
        futures += client.map(work, range(11, 31))
        client.gather(futures)
        cluster.scale(2)
        cluster.sync(cluster._correct_state)
        assert client.gather(futures) == [*range(1, 31)]
        print(*sorted(cluster.workers))
"""


def test_another_process_scales_and_leaves(spec: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    out, err = run(ELSEWHERE, spec, log)
    first = out.split()
    assert len(first) == 2
    assert "Traceback" not in err
    # No task ran twice.
    assert sorted(map(int, log.read_text().split())) == [*range(31)]
    assert nodes(spec) == sorted([*first, "scheduler"])
    assert no_changes(spec)
    with planapply.connect(spec) as client:
        assert client.submit(sum, [1, 2]).result(timeout=120) == 3


def test_from_name_in_another_process(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    for name in ("./farm.state.json", str(spec.with_name("farm.state.json"))):
        with Cluster.from_name(name) as cluster:
            assert sorted([*cluster.workers, "scheduler"]) == nodes(spec)
            cluster.scale(len(cluster.workers))  # the state has the bounds
    with Cluster.from_name("farm.toml") as cluster:
        cluster.scale(len(cluster.workers))  # the spec has bounds
    with pytest.raises(PlanapplyError, match=r"there is no spec or state at none\.json"):
        Cluster.from_name("none.json")


UNCLOSED = """
import sys
import planapply

cluster = planapply.Cluster.from_spec(sys.argv[1])
print(*sorted(cluster.workers))
"""


def test_process_that_exits_without_closing_leaves_the_cluster_running(spec: Path) -> None:
    before = {process.pid for process in processes(spec.parent)}
    out, err = run(UNCLOSED, spec)
    assert "Traceback" not in err
    assert sorted([*out.split(), "scheduler"]) == nodes(spec)
    assert {process.pid for process in processes(spec.parent)} == before


ATTACHED = """
import sys
import planapply

with planapply.Cluster.from_spec(sys.argv[1], scheduler_sync_interval=0.02) as cluster:
    cluster.adapt(interval="1h")
    print("attached", flush=True)
    for line in sys.stdin:
        cluster.scale(int(line))
        cluster.sync(cluster._correct_state)
        print(*sorted(cluster.workers), flush=True)
"""


def test_two_processes_scale_at_once(spec: Path) -> None:
    def scale_there(nodes: int) -> list[str]:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(f"{nodes}\n")
        other.stdin.flush()
        return other.stdout.readline().split()

    with (
        Cluster.from_spec(spec, scheduler_sync_interval=0.02) as cluster,
        session(ATTACHED, spec) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "attached\n"
        with pytest.raises(
            PlanapplyError, match=rf"\(process {other.pid}\) has been adapting this cluster since"
        ):
            cluster.adapt()
        cluster.scale(1)
        apply_pending(cluster)
        theirs = scale_there(3)
        assert len(theirs) == 3
        # They are seen here when they join, though the scheduler sends updates to the other process.
        wait_until(lambda: sorted(cluster.workers) == theirs and cluster.observed == {*theirs})
        cluster.scale(2)
        apply_pending(cluster)
        assert scale_there(2) == sorted(cluster.workers)
        # A killed process no longer holds the adaptive lock.
        other.send_signal(signal.SIGKILL)
        other.wait()
        cluster.adapt(interval="1h")
    assert no_changes(spec)


OWNER = """
import sys
import distributed
import planapply

if __name__ == "__main__":
    spec = planapply.load_spec(sys.argv[1])
    cluster = distributed.SpecCluster(**spec.cluster_spec())
    with distributed.Client(cluster) as client:
        client.wait_for_workers(1)
        print(client.submit(sum, [1, 2]).result(), flush=True)
    if sys.argv[2] == "close":
        cluster.close()
    else:
        sys.stdin.read()
"""


def test_stock_spec_cluster_closes_its_nodes(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(SPEC.format(number=uuid.uuid4().hex[:12], folder=tmp_path / "vms"))
    out, err = run(OWNER, path, "close")
    assert out == "3\n"
    assert "Traceback" not in err
    assert nodes(path) == []
    assert not processes(tmp_path)


def test_nodes_of_a_killed_spec_cluster_are_in_the_state(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(SPEC.format(number=uuid.uuid4().hex[:12], folder=tmp_path / "vms"))
    with session(OWNER, path, "stay") as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "3\n"
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert nodes(path) == ["cpu-0", "scheduler"]
    assert no_changes(path)
    destroy(path)
    assert not processes(tmp_path)
