"""No VM is ever lost: thousands of lives of a cluster, in which each process may die at any point."""

import json
from collections.abc import Callable

import pytest
from order import few
from simulator.scenario import Statistics, Violation, run_scenario, run_waves

SEEDS, CHUNKS = 3000, 12
FEW = 3
"""As many chunks run with the other tests; `make soak` runs the rest."""
EXHAUSTIVE_SEEDS = 24
"""Stories in which a process dies at every point."""


RunScenario = Callable[[int, int | None], int]


@pytest.fixture
def run_seed(request: pytest.FixtureRequest) -> RunScenario:
    """Run a story; the figures are summed at the end of the log, see conftest.py."""
    statistics = Statistics({"violations": 0})
    request.node.user_properties.append(("simulator", "{}"))

    def run_seed(seed: int, die_at: int | None) -> int:
        try:
            return run_scenario(seed, die_at, statistics)
        except Violation as violation:
            statistics["violations"] += 1
            point = "" if die_at is None else f" {die_at}"
            pytest.fail(f"{violation}\nreplay: make story SEED='{seed}{point}'", pytrace=False)
        finally:
            request.node.user_properties[-1] = ("simulator", json.dumps(statistics))

    return run_seed


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("chunk", few(range(CHUNKS), FEW))
def test_random_crashes_lose_nothing(chunk: int, run_seed: RunScenario) -> None:
    for seed in range(chunk, SEEDS, CHUNKS):
        run_seed(seed, None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(EXHAUSTIVE_SEEDS))
def test_crash_at_every_point_loses_nothing(seed: int, run_seed: RunScenario) -> None:
    points = run_seed(seed, 10_000)
    for die_at in range(points):
        run_seed(seed, die_at)


@pytest.mark.slow
@pytest.mark.parametrize("goes_back", [False, True])
def test_crash_at_every_point_of_waves_takes_one_node_at_most(goes_back: bool) -> None:
    points = run_waves(10_000, goes_back=goes_back)
    assert points > 40
    for die_at in range(points):
        run_waves(die_at, goes_back=goes_back)
