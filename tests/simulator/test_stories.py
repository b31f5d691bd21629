"""No VM is ever lost: thousands of lives of a cluster, each process of which may die anywhere."""

import json
from collections.abc import Callable

import pytest
from simulator.scenario import Figures, Violation, tell

SEEDS, CHUNKS = 3000, 12
EXHAUSTIVE = 24
"""Stories in which every single point is tried."""


Tell = Callable[[int, int | None], int]


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Tell:
    """Lives a story; the figures are summed up at the end of the log, see conftest.py."""
    figures = Figures({"violations": 0})
    request.node.user_properties.append(("simulator", "{}"))

    def live(seed: int, die_at: int | None) -> int:
        try:
            return tell(seed, die_at, figures)
        except Violation as violation:
            figures["violations"] += 1
            point = "" if die_at is None else f" {die_at}"
            pytest.fail(f"{violation}\nreplay: make story SEED='{seed}{point}'", pytrace=False)
        finally:
            request.node.user_properties[-1] = ("simulator", json.dumps(figures))

    return live


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_dies_whenever_nothing_is_lost(chunk: int, live: Tell) -> None:
    for seed in range(chunk, SEEDS, CHUNKS):
        live(seed, None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(EXHAUSTIVE))
def test_dying_at_every_single_point(seed: int, live: Tell) -> None:
    points = live(seed, 10_000)
    for die_at in range(points):
        live(seed, die_at)
