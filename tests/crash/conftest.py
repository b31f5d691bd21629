"""A site whose cloud hangs when asked to, for tests of signals."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.environment import Ground, local
from crash.stopping import Site
from lab.fixtures import aws

__all__ = ["aws", "ground", "new_site", "site"]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    info = tmp_path / "site" / "hanging_planapply-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging-planapply\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[planapply.providers]\nhanging = crash.hanging_plugin:PLUGIN\n"
    )
    with local(tmp_path / "ground") as ground:
        path = f"{info.parent}:{ground.env['PYTHONPATH']}"
        ground.env = {**ground.env, "PYTHONPATH": path}
        yield ground


@pytest.fixture
def new_site(ground: Ground, tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    sites = []

    def new(state: str) -> Site:
        sites.append(Site(ground, tmp_path, state))
        return sites[-1]

    yield new
    for site in sites:
        for process in site.started:
            process.kill()
            process.communicate()


@pytest.fixture
def site(new_site: Callable[[str], Site], tmp_path: Path) -> Site:
    return new_site(str(tmp_path / "signals.json"))
