"""plan, apply, destroy, and open_cluster from Python, with real clusters on this machine."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.forkserver import ForkServer
from order import few

import planapply
from planapply.model.event import Event
from planapply.model.plan import Plan
from planapply.store import open_store

pytestmark = pytest.mark.slow

ZOO, JOB = f"zoo-{os.getpid()}", f"job-{os.getpid()}"
"""Names of clusters: with the provider local, all test processes of this user are in one account."""
SPEC = f"""
[cluster]
name = "{ZOO}"

[provider]
folder = "vms"

[workers.cpu]
count = 1
options = {{ nthreads = 1 }}
"""
TWO_THREADS = {"workers.cpu.options.nthreads": 2}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a spec; whatever was applied with it is destroyed."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "planapply.toml"
    path.write_text(SPEC.replace('"vms"', f'"{tmp_path / "vms"}"'))
    yield path
    for state in tmp_path.glob("*.state.json"):
        planapply.destroy(state, progress=False)
    assert live(tmp_path) == []


def live(folder: Path) -> list[str]:
    """Return the processes whose command line names this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(folder / "vms") in " ".join(words):
            found.append(" ".join(words))
    return found


def test_life_of_a_cluster(spec: Path) -> None:
    made = planapply.plan()
    assert isinstance(made, Plan)
    assert str(made) == (
        f'planapply will change cluster "{ZOO}" (local):\n'
        "\n"
        "  +   scheduler\n"
        "  +   cpu-0\n"
        "\n"
        "Plan: 2 to add, 0 to change, 0 to destroy."
    )
    events: list[Event] = []
    threads = set()

    def show(event: Event) -> None:
        events.append(event)
        threads.add(threading.current_thread())

    async def main() -> planapply.ApplyReport:  # as in a notebook
        return planapply.apply(plan=made, progress=show)

    report = asyncio.run(main())
    assert (report.added, report.changed, report.destroyed) == (2, 0, 0)
    assert report.seconds > 0
    assert {name for event in events for name in event.names} == {"scheduler", "cpu-0"}
    assert threads == {threading.main_thread()}
    with planapply.connect() as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert not planapply.plan().changes

    with pytest.raises(planapply.PlanapplyError) as refused:
        planapply.apply(overrides=TWO_THREADS, progress=False)
    assert str(refused.value) == (
        "cannot apply without approval: the plan destroys or replaces cpu-0\n"
        "Review it with `planapply.plan`, then pass it as `plan=`, or pass `approve=True`."
    )
    with pytest.raises(planapply.PlanapplyError) as stale:
        planapply.apply(plan=made, progress=False)
    assert re.sub(r"now \d+", "now N", str(stale.value)) == (
        "cannot apply the plan: it is stale: the serial of the state was 0, and is now N\n"
        "Call `planapply.plan` again, and review the new plan."
    )
    assert stale.value.code == "plan_stale"
    with pytest.raises(planapply.PlanapplyError) as other:
        planapply.apply(plan=made.model_copy(update={"lineage": "another"}), progress=False)
    assert str(other.value) == (
        f"cannot apply the plan: it was made for a different cluster ('{ZOO}')\n"
        "Pass the spec and the state that the plan was made from."
    )
    with pytest.raises(planapply.PlanapplyError) as renamed:
        planapply.plan(overrides={"cluster.name": "ark"})
    assert str(renamed.value).startswith(
        f"the state belongs to cluster '{ZOO}', but the spec defines 'ark'\n"
    )
    report = planapply.apply(overrides=TWO_THREADS, approve=True, progress=False)
    assert (report.added, report.changed, report.destroyed) == (1, 0, 1)
    report = planapply.destroy(progress=False)
    assert (report.added, report.changed, report.destroyed) == (0, 0, 2)


def test_results_survive_the_replacement_of_all_nodes(spec: Path, tmp_path: Path) -> None:
    two = {"workers.cpu.count": 2}
    planapply.apply(overrides=two, progress=False)
    log = tmp_path / "runs"
    with planapply.connect() as client:
        client.wait_for_workers(2)

        def compute(number: int) -> int:
            with log.open("a") as file:
                file.write(f"{number}\n")
            return number

        futures = [
            client.submit(compute, i, workers=[f"cpu-{i % 2}"], pure=False, key=f"held-{i}")
            for i in range(10)
        ]
        assert client.gather(futures) == [*range(10)]
        report = planapply.apply(overrides={**two, **TWO_THREADS}, approve=True, progress=False)
        assert report.plan.waves == (("cpu-0",), ("cpu-1",))
        assert client.gather(futures) == [*range(10)]
    assert sorted(map(int, log.read_text().split())) == [*range(10)]
    assert not planapply.plan(overrides={**two, **TWO_THREADS}).changes


def test_callback_that_raises_stops_the_apply(spec: Path) -> None:
    def fail(event: Event) -> None:
        raise ValueError("a bug of the user")

    with pytest.raises(planapply.PlanapplyError) as raised:
        planapply.apply(progress=fail)
    assert str(raised.value) == (
        "stopped, because the progress callback raised ValueError: a bug of the user\n"
        "What was done until then is recorded. The next apply or destroy continues from there."
    )
    assert isinstance(raised.value.__cause__, ValueError)
    assert not [t for t in threading.enumerate() if t.name == "planapply"]
    planapply.apply(progress=False, approve=True)
    assert not planapply.plan().changes


def test_interrupt_is_recorded(spec: Path) -> None:
    """KeyboardInterrupt stops an apply as Ctrl-C stops the command; the next one continues."""

    def interrupt(event: Event) -> None:
        if event.event == "launched":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        planapply.apply(progress=interrupt)
    assert not [t for t in threading.enumerate() if t.name == "planapply"]
    state = open_store(str(spec.with_name("planapply.state.json"))).read()
    assert state is not None
    assert state.nodes or state.intents
    planapply.apply(progress=False, approve=True)
    assert not planapply.plan().changes


def test_cluster_of_a_job(spec: Path) -> None:
    with pytest.warns(UserWarning, match=f"cluster '{JOB}-1' has no `ttl`"):
        opened = planapply.open_cluster(launch=True, destroy_on_close=True, name=f"{JOB}-1")
    with opened as cluster:
        assert isinstance(cluster, planapply.Cluster)
        assert spec.with_name(f"{JOB}-1.state.json").exists()
        with cluster.get_client() as client:
            assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(planapply.PlanapplyError) as refused:
            planapply.open_cluster(launch=True, destroy_on_close=True, name=f"{JOB}-1")
        assert str(refused.value) == (
            f"cannot use destroy_on_close=True: the state {JOB}-1.state.json has nodes already\n"
            "Pass `name=` for a cluster of this job's own, or destroy the other cluster first."
        )
    state = open_store(f"{JOB}-1.state.json").read()
    assert state is not None
    assert state.is_empty
    assert not Path("planapply.state.json").exists()


def test_error_in_the_block_destroys_the_cluster(spec: Path) -> None:
    async def job() -> None:
        async with planapply.open_cluster(
            launch=True, destroy_on_close=True, overrides={"cluster.ttl": "1 h"}, asynchronous=True
        ) as cluster:
            assert len(cluster.workers) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(job())
    state = open_store("planapply.state.json").read()
    assert state is not None
    assert state.is_empty


def test_canceled_launch_of_a_job_is_destroyed(spec: Path) -> None:
    async def job() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(event: Event) -> None:
            if event.event == "launched" and not task.cancelling():
                loop.call_soon_threadsafe(task.cancel)

        await planapply.open_cluster(
            launch=True,
            destroy_on_close=True,
            overrides={"cluster.ttl": "1 h"},
            lock_timeout="10s",
            progress=cancel,
            asynchronous=True,
        )

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(job())
    state = open_store("planapply.state.json").read()
    assert state is not None
    assert state.is_empty
    assert live(spec.parent) == []


def test_interrupted_launch_of_a_job_is_destroyed(spec: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.event == "launched":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        planapply.open_cluster(
            launch=True,
            destroy_on_close=True,
            overrides={"cluster.ttl": "1 h"},
            lock_timeout="10s",
            progress=interrupt,
        )
    state = open_store("planapply.state.json").read()
    assert state is not None
    assert state.is_empty


def test_launch_creates_only(spec: Path) -> None:
    with planapply.open_cluster(launch=True) as cluster:
        assert len(cluster.workers) == 1
    with pytest.raises(planapply.PlanapplyError) as refused:
        planapply.open_cluster(launch=True, overrides=TWO_THREADS)
    assert str(refused.value) == (
        f"cannot launch cluster '{ZOO}': the plan also changes or removes cpu-0\n"
        "Review it with `planapply.plan`, and carry it out with `planapply.apply`."
    )
    with planapply.open_cluster() as cluster:
        assert len(cluster.workers) == 1


def test_jobs_side_by_side(spec: Path) -> None:
    """Two jobs of one spec have clusters of their own; the end of one does not touch the other."""
    ttl = {"cluster.ttl": "1 h"}
    with planapply.open_cluster(
        launch=True, destroy_on_close=True, name=f"{JOB}-1", overrides=ttl
    ) as one:
        with (
            planapply.open_cluster(
                launch=True, destroy_on_close=True, name=f"{JOB}-2", overrides=ttl
            ) as two,
            one.get_client() as client,
            two.get_client() as other,
        ):
            assert one.scheduler_address != two.scheduler_address
            assert (one.name, two.name) == (f"{JOB}-1", f"{JOB}-2")
            assert client.submit(sum, [1, 2]).result() + other.submit(sum, [3]).result() == 6
        with one.get_client() as client:
            assert client.submit(sum, [1, 2]).result() == 3
        second = open_store(f"{JOB}-2.state.json").read()
        assert second is not None
        assert second.is_empty
    first = open_store(f"{JOB}-1.state.json").read()
    assert first is not None
    assert first.is_empty
    assert not Path("planapply.state.json").exists()


_JOB = """
import sys
from crash.crash_points import CrashPoints
import planapply
points = CrashPoints(int(sys.argv[2]) if sys.argv[2] else None)
points.arm()
with planapply.open_cluster(sys.argv[1], launch=True, destroy_on_close=True, name=sys.argv[3]) as cluster:
    with cluster.get_client() as client:
        assert client.submit(sum, [1, 2]).result() == 3
print(points.points)
"""


def run_job(spec: Path, die_at: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _JOB, spec, die_at, JOB],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def job_points(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The number of moments at which a job can die, from its launch to its exit."""
    folder = tmp_path_factory.mktemp("job")
    path = folder / "planapply.toml"
    path.write_text(SPEC.replace('"vms"', f'"{folder / "vms"}"'))
    done = run_job(path)
    assert done.returncode == 0, done.stderr
    assert live(folder) == []
    return int(done.stdout)


@pytest.mark.parametrize(
    "moment", few([0.5, 0.25, 0.85, 0.02, 0.12, 0.35, 0.6, 0.7, 0.93, 0.98], 2)
)
def test_killed_job_is_destroyed_by_the_command(
    spec: Path, moment: float, job_points: int, fork_server: ForkServer
) -> None:
    """A job is killed at some of its side effects: while it launches, computes, or destroys."""
    done = run_job(spec, str(int(moment * job_points)))
    assert done.returncode == -signal.SIGKILL, done.stderr
    if Path(f"{JOB}.state.json").exists():
        destroyed = fork_server.run(
            *("destroy", "--auto-approve", "--state", f"{JOB}.state.json", "--lock-timeout", "10s"),
            cwd=spec.parent,
            env=dict(os.environ),
        )
        assert destroyed.code == 0, destroyed.err
        state = open_store(f"{JOB}.state.json").read()
        assert state is not None
        assert state.is_empty
    assert live(spec.parent) == []


Call = Callable[[], object]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planapply.plan("no.toml"), "the spec no.toml does not exist"),
        (lambda: planapply.apply("no.toml"), "the spec no.toml does not exist"),
        (lambda: planapply.destroy("planapply.toml"), "there is no state at "),
        (lambda: planapply.destroy("no.state.json"), "there is no spec or state at no.state.json"),
        (lambda: planapply.connect("no.toml"), "there is no spec or state at no.toml"),
        (lambda: planapply.connect(), "there is no state at "),
        (
            lambda: planapply.Cluster.from_name("no.state.json"),
            "there is no spec or state at no.state.json",
        ),
        (lambda: planapply.open_cluster("no.toml", launch=True), "the spec no.toml does not exist"),
        (lambda: planapply.plan(targets=["gpu-0"]), "gpu-0"),
        (lambda: planapply.plan(replace=["gpu"]), "there is no node 'gpu'"),
        (lambda: planapply.open_cluster(overrides={"cluster.nmae": "x"}), "has no key `nmae`"),
        (
            lambda: planapply.plan(overrides={"workers.cpu.cuont": 1}),
            "[workers.cpu] has no key `cuont`",
        ),
        (lambda: planapply.plan(overrides=["nothing"]), "--set nothing: it has no `=`"),
        (lambda: planapply.open_cluster(), "cluster"),
        (
            lambda: planapply.plan("s3://bucket/zoo.json"),
            "cannot read the spec s3://bucket/zoo.json: a spec is a file, not a URL",
        ),
        (
            lambda: planapply.open_cluster(name=ZOO),
            "cannot use name='ZOO': it is the name of the spec's own cluster",
        ),
    ],
)
def test_bad_input_is_one_error(call: Call, message: str, spec: Path) -> None:
    with pytest.raises(planapply.PlanapplyError) as raised:
        call()
    # The name has this process's ID, and a parameter with it would differ between pytest's workers.
    assert message in str(raised.value).replace(ZOO, "ZOO")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: planapply.open_cluster(destroy_on_close=True),
            "cannot use destroy_on_close=True without launch=True",
        ),
        (
            lambda: planapply.destroy(targets=["cpu-0"], terminate_unknown=True),
            "cannot pass terminate_unknown together with targets: VMs that are no nodes are no targets",
        ),
        (
            lambda: planapply.plan(targets="cpu-0"),
            "targets must be a list of names, not 'cpu-0'",
        ),
        (
            lambda: planapply.apply(plan="saved.plan"),  # type: ignore[arg-type]
            "plan must be a plan that planapply.plan returned, not 'saved.plan'",
        ),
        (
            lambda: planapply.apply(progress="yes"),  # type: ignore[arg-type]
            "progress must be True, False, or a callable, not 'yes'",
        ),
        (
            lambda: planapply.plan(overrides="a=1"),
            "cannot use a text as overrides: pass a mapping, or a list of KEY=VALUE texts",
        ),
        (
            lambda: planapply.load_spec(overrides=3),  # type: ignore[arg-type]
            "overrides must be a mapping, or a list of KEY=VALUE texts, not 3",
        ),
        (
            lambda: planapply.apply(overrides={"workers.cpu.count": None}),
            "overrides['workers.cpu.count'] must be a text, a number, True, False, a list, or a mapping, "
            "not None",
        ),
        (
            lambda: planapply.plan(overrides={"workers.cpu.options": {1: 2}}),
            "overrides['workers.cpu.options'] must be a text, a number, True, False, a list, or a mapping, "
            "not {1: 2}",
        ),
        (
            lambda: planapply.destroy(targets=[3]),  # type: ignore[list-item]
            "targets must be a list of names, not [3]",
        ),
        (
            lambda: planapply.plan(replace=3),  # type: ignore[arg-type]
            "replace must be a list of names, not 3",
        ),
        (lambda: planapply.plan(None), "path must be a path, not None"),  # type: ignore[arg-type]
        (lambda: planapply.connect(3), "where must be a path, not 3"),  # type: ignore[call-overload]
        (
            lambda: planapply.Cluster.from_name(None),  # type: ignore[arg-type]
            "name must be a path, not None",
        ),
        (
            lambda: planapply.Cluster.from_spec(state=3),  # type: ignore[arg-type]
            "state must be a path, not 3",
        ),
        (
            lambda: planapply.apply(approve="no"),  # type: ignore[arg-type]
            "approve must be True or False, not 'no'",
        ),
        (
            lambda: planapply.open_cluster(launch="no"),  # type: ignore[arg-type]
            "launch must be True or False, not 'no'",
        ),
        (
            lambda: planapply.open_cluster(launch=True, nope=1),
            "cannot pass nope: of SpecCluster's arguments, a cluster that is opened takes asynchronous, "
            "loop, scheduler_sync_interval, shutdown_on_close, silence_logs",
        ),
        (
            lambda: planapply.open_cluster(asynchronous=True).__enter__(),  # type: ignore[union-attr]
            "cannot use `with` with asynchronous=True: use `async with`",
        ),
        (
            lambda: planapply.Cluster("planapply.toml"),
            "cannot create a cluster from 'planapply.toml': Cluster() takes the arguments of SpecCluster. "
            "Use planapply.Cluster.from_spec to open a running cluster, or planapply.open_cluster to "
            "launch one.",
        ),
    ],
)
def test_wrong_arguments_are_type_errors(call: Call, message: str, spec: Path) -> None:
    with pytest.raises(TypeError) as raised:
        call()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planapply.plan(""), "path cannot be empty"),
        (
            lambda: planapply.plan("\ud800"),
            "path must be a path, not '\\ud800', which is not valid ",
        ),
        (
            lambda: planapply.open_cluster(name="../x"),
            "name must be the name of a cluster, not '../x'",
        ),
    ],
)
def test_wrong_values_are_value_errors(call: Call, message: str, spec: Path) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


def test_mappings_and_paths_are_accepted_everywhere(spec: Path) -> None:
    loaded = planapply.load_spec(
        spec, overrides={"workers.cpu.count": 2}, state=spec.with_name("other.json")
    )
    assert loaded.workers["cpu"].count == 2
    assert planapply.plan(spec, state=spec.with_name("other.json")).changes
