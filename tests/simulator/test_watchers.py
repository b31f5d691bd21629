"""Several watchers and people at once, all of which may die at any point: never a node too many."""

import json

import pytest
from order import few
from simulator.scenario import Statistics, Violation
from simulator.watched import run_story

SEEDS_PER_CHUNK, CHUNKS = 10, 100
FEW = 3
"""As many chunks run with the other tests; `make soak` runs the rest."""


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("chunk", few(range(CHUNKS), FEW))
def test_watchers_launch_what_is_lost_and_nothing_else(
    chunk: int, request: pytest.FixtureRequest
) -> None:
    statistics = Statistics({"violations": 0})
    for seed in range(chunk * SEEDS_PER_CHUNK, (chunk + 1) * SEEDS_PER_CHUNK):
        try:
            run_story(seed, statistics)
        except Violation as violation:
            statistics["violations"] += 1
            request.node.user_properties.append(("simulator", json.dumps(statistics)))
            pytest.fail(f"{violation}\nreplay: make watched SEED={seed}", pytrace=False)
    request.node.user_properties.append(("simulator", json.dumps(statistics)))
