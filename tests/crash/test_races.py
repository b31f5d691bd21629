"""Twenty real commands at once on one state: they run one at a time, lose nothing, and launch nothing twice."""

import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.environment import Environment, local_environment
from crash.forkserver import ForkServer
from lab.fixtures import aws  # noqa: F401
from lab.honest import Cloud

from planapply.model.state import State
from planapply.store import open_store

pytestmark = pytest.mark.slow

RACERS = 20
SPEC = """\
[cluster]
name = "race-{number}"
{environment}
[workers.cpu]
count = 1
options = {{ nthreads = 1, {options} }}
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with local_environment(tmp_path / "ground") as environment:
        (tmp_path / "planapply.toml").write_text(
            SPEC.format(
                number=uuid.uuid4().hex[:12],
                environment=environment.spec,
                options=environment.options,
            )
        )
        yield environment


def bucket(aws: Cloud) -> dict[str, str]:  # noqa: F811
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    return aws.env


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["a file", "S3"])
def state_location(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """The location of the state, and the environment to access it."""
    if request.param == "a file":
        return str(tmp_path / "race.json"), {}
    return "s3://states/race.json", bucket(request.getfixturevalue("aws"))


@pytest.fixture
def start(
    environment: Environment,
    state_location: tuple[str, dict[str, str]],
    tmp_path: Path,
    fork_server: ForkServer,
) -> Iterator[Start]:
    """Start a command on that state; it is stopped after the test."""
    location, env = state_location
    started = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        started.append(
            fork_server.start(
                *arguments,
                *("--state", location),
                cwd=tmp_path,
                env={**environment.env, **env},
                stderr=subprocess.STDOUT,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def apply(start: Start, number: int) -> "subprocess.Popen[str]":
    """Start an apply that has a change to make, whatever the others did."""
    return start(
        *("apply", "--auto-approve", "--no-wait", "--lock-timeout", "10 min"),
        *("--set", f'cluster.tags.racer="{number}"'),
    )


def finish(process: "subprocess.Popen[str]") -> None:
    """Check that the command succeeds."""
    out, _ = process.communicate()
    assert process.returncode == 0, out


def test_concurrent_applies_run_one_at_a_time(
    start: Start, state_location: tuple[str, dict[str, str]], environment: Environment
) -> None:
    def read() -> State:
        state = open_store(state_location[0]).read()
        assert state is not None
        return state

    serials = []
    for number in (-1, -2):  # alone
        finish(apply(start, number))
        serials.append(read().serial)
    first, each = serials[0], serials[1] - serials[0]
    finish(start("destroy", "--auto-approve"))
    before = read().serial

    processes = [apply(start, number) for number in range(RACERS)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * RACERS, outputs
    # The first command launches; each of the others finds the cluster, and changes its tags.
    assert sum("2 added, 0 changed" in out for out in outputs) == 1
    assert sum("0 added, 2 changed" in out for out in outputs) == RACERS - 1
    state = read()
    assert state.serial == before + first + (RACERS - 1) * each
    vms = environment.live_vms(state.lineage)
    assert sorted(str(vm.name) for vm in vms) == sorted(state.nodes) == ["cpu-0", "scheduler"]
    (last,) = {record.tags["racer"] for record in state.nodes.values()}
    assert {vm.tags["racer"] for vm in vms} == {last}
    assert open_store(state_location[0]).lock_info() is None
    finish(start("destroy", "--auto-approve"))
    assert environment.leftovers(state.lineage) == []
