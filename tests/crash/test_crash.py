"""The real command, killed at any moment on a real provider: nothing is lost, duplicated, or damaged.

`make soak` runs more seeds, `make crash` any number.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.environment import ENVIRONMENTS
from crash.forkserver import ForkServer
from crash.scenario import Scenario, Statistics, StepCost
from order import few

pytestmark = pytest.mark.slow

RUNS = [
    *few([("local", "time" if seed % 4 == 1 else "point", seed) for seed in range(20)], 4),
    *few([("ec2", "call" if seed % 2 else "point", seed) for seed in range(20)], 2),
    *few([("libcloud", "call" if seed % 2 else "point", seed) for seed in range(6)], 2),
]
"""Each life has a kill in an apply, a replacement, a scale-down, and a destroy."""
MeasureSteps = Callable[[str, str], dict[str, StepCost]]


@pytest.fixture(scope="session")
def step_costs(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> MeasureSteps:
    """The size of each step, measured once for each environment and kind of kill."""
    measured: dict[tuple[str, bool], dict[str, StepCost]] = {}

    def measure(kind: str, kill_by: str) -> dict[str, StepCost]:
        as_subprocess = kill_by == "time"
        if (kind, as_subprocess) not in measured:
            folder = tmp_path_factory.mktemp("pace")
            with ENVIRONMENTS[kind](folder) as environment:
                measured[kind, as_subprocess] = Scenario(
                    environment, folder / "life", fork_server, 1
                ).measure(as_subprocess=as_subprocess)
        return measured[kind, as_subprocess]

    return measure


@pytest.mark.parametrize(("kind", "kill_by", "seed"), RUNS)
def test_kill_at_any_moment_loses_nothing(
    kind: str,
    kill_by: str,
    seed: int,
    fork_server: ForkServer,
    step_costs: MeasureSteps,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    costs, statistics = step_costs(kind, kill_by), Statistics()
    with ENVIRONMENTS[kind](tmp_path) as environment:
        Scenario(environment, tmp_path / "life", fork_server, seed, statistics).run_with_kills(
            costs, kill_by
        )
    request.node.user_properties.append(("crash", json.dumps(statistics)))
