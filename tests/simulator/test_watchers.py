"""Several watchers and people at once, all of which may die at any point: never a node too many."""

import json

import pytest
from order import few
from simulator.killed import KilledWatcher
from simulator.scenario import Statistics, Violation
from simulator.watched import run_story

SEEDS_PER_CHUNK, CHUNKS = 10, 100
FEW, STRIDE = 2, 5
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


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("tokens", "first"),
    few([(first % 2 == 0, first % STRIDE) for first in range(2 * STRIDE)], 2),
)
def test_watcher_killed_at_every_point_loses_nothing(
    tokens: bool, first: int, request: pytest.FixtureRequest
) -> None:
    statistics, point, is_killed = Statistics({"violations": 0}), first, True
    while is_killed:
        story = KilledWatcher(point, tokens=tokens)
        try:
            is_killed = story.run()
        except Violation as violation:
            pytest.fail(f"killed at point {point}: {violation}", pytrace=False)
        statistics.update(story.world.statistics)
        point += STRIDE
    assert point > 100
    request.node.user_properties.append(("simulator", json.dumps(statistics)))
