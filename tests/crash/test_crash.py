"""The real command, killed at any moment on a real provider: nothing is lost, doubled or torn.

`make crash` does the same many more times.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.environment import GROUNDS, environment
from crash.forkserver import Zygote
from crash.scenario import Figures, Life, Pace

pytestmark = pytest.mark.slow

LIVES = [
    *(("local", "time" if seed % 4 == 1 else "point", seed) for seed in range(20)),
    *(("ec2", "call" if seed % 2 else "point", seed) for seed in range(20)),
    *(("libcloud", "call" if seed % 2 else "point", seed) for seed in range(6)),
]
"""Each life has one moment in an apply, a replacement, a scale-down and a destroy."""
Paces = Callable[[str, str], dict[str, Pace]]


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(environment(tmp_path_factory.mktemp("zygote")))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def paces(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Paces:
    """How far each step goes, measured once for each ground and way of being killed."""
    known: dict[tuple[str, bool], dict[str, Pace]] = {}

    def pace(ground: str, how: str) -> dict[str, Pace]:
        alone = how == "time"
        if (ground, alone) not in known:
            folder = tmp_path_factory.mktemp("pace")
            with GROUNDS[ground](folder) as place:
                known[ground, alone] = Life(place, folder / "life", zygote, 1).pace(alone=alone)
        return known[ground, alone]

    return pace


@pytest.mark.parametrize(("ground", "how", "seed"), LIVES)
def test_killed_at_any_moment_nothing_is_lost(
    ground: str,
    how: str,
    seed: int,
    zygote: Zygote,
    paces: Paces,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    pace, figures = paces(ground, how), Figures()
    with GROUNDS[ground](tmp_path) as place:
        Life(place, tmp_path / "life", zygote, seed, figures).live(pace, how)
    request.node.user_properties.append(("crash", json.dumps(figures)))
