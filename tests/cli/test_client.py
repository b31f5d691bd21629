"""`packages = "client"` is decided by the first apply, and kept for plans from another Python."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commands import SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

import planapply
from planapply.model.state import State
from planapply.ops.recorded_spec import recorded_spec
from planapply.specfile import client_packages
from planapply.store import open_store

CLIENT = SPEC.replace("count = 3", "min = 1\nmax = 3") + '[environment]\npackages = "client"\n'
MINE = ("dask==2026.8.0", "distributed==2026.8.0", "mine @ git+https://me:tiger-6@h/mine@c0")
THEIRS = ("dask==2026.7.0", "distributed==2026.7.0", "mine @ git+https://h/mine@c1", "pandas==3.0")

Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, cloud: FakeCloud) -> Use:
    """Function that makes the Python that runs planapply another one."""

    def use(packages: tuple[str, ...], python: str = "3.12") -> None:
        found = client_packages.ClientPackages(packages)
        monkeypatch.setattr(client_packages, "client_packages", lambda: found)
        monkeypatch.setattr(client_packages, "client_python", lambda: python)

    Path("planapply.toml").write_text(CLIENT)
    use(MINE)
    return use


def read() -> State:
    state = open_store("planapply.state.json").read()
    assert state is not None
    return state


def installed() -> dict[str, tuple[str, ...] | None]:
    state = read()
    return {n: state.configs[r.config].environment.packages for n, r in state.nodes.items()}


def apply(run: Run, *options: str) -> None:
    result = run("apply", "--auto-approve", "--no-wait", *options)
    assert result.code == 0, result.err


def test_plan_from_another_python_replaces_nothing(run: Run, use: Use) -> None:
    apply(run)
    assert run("plan") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 1.60 USD/h (list prices of 2025-03-02)
Elastic: cpu has 1 node (min 1, max 3); its size changes only through `scale` and `adapt`.
"""),
        "",
    )
    use(THEIRS, "3.13")
    result = run("plan", "--detailed-exitcode")
    assert (result.code, result.out) == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 1.60 USD/h (list prices of 2025-03-02)
Elastic: cpu has 1 node (min 1, max 3); its size changes only through `scale` and `adapt`.
"""),
    )
    assert result.err == snapshot("""\

Note: this Python is not the one that `packages = "client"` stands for
  The nodes keep the packages of that one. Differences: Python 3.12 -> 3.13, dask 2026.8.0 ->
  2026.7.0, distributed 2026.8.0 -> 2026.7.0, mine (from an address), pandas (none) -> 3.0. To
  install the packages of this Python: `planapply apply --refresh-client`
""")
    apply(run, "--set", "workers.cpu.min=2")  # a new node has the packages of the others
    assert installed() == {"scheduler": MINE, "cpu-0": MINE, "cpu-1": MINE}
    assert run("scale", "cpu=3", "--auto-approve", "--no-wait").code == 0
    assert {*installed().values()} == {MINE}
    use(("dask==2026.8.0", *MINE[1:]))
    assert run("plan").err == ""


def test_refresh_takes_the_packages_of_this_python(run: Run, use: Use) -> None:
    apply(run)
    use(THEIRS)
    result = run("plan", "--refresh-client", "--out", "saved")
    assert "tiger-6" not in result.out + result.err
    assert result.out == snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -/+ scheduler   small
        environment.packages   (forces replacement)
          - "dask==2026.8.0"
          - "distributed==2026.8.0"
          - "mine @ git+https://…@h/mine@c0"
          + "dask==2026.7.0"
          + "distributed==2026.7.0"
          + "mine @ git+https://h/mine@c1"
          + "pandas==3.0"
  -/+ cpu-0       large
        environment.packages   (forces replacement)
          - "dask==2026.8.0"
          - "distributed==2026.8.0"
          - "mine @ git+https://…@h/mine@c0"
          + "dask==2026.7.0"
          + "distributed==2026.7.0"
          + "mine @ git+https://h/mine@c1"
          + "pandas==3.0"

Plan: 2 to add, 0 to change, 2 to destroy.
Cost: 1.60 USD/h (list prices of 2025-03-02)
Elastic: cpu has 1 node (min 1, max 3); its size changes only through `scale` and `adapt`.
""")
    assert {*installed().values()} == {MINE}
    use(("dask==2026.6.0",))
    refused = run("apply", "saved", "--auto-approve", "--no-wait")
    assert (refused.code, refused.err) == (
        1,
        snapshot("""\
Error: cannot apply the plan: this Python is not the one that it was made with, and the spec has
`packages = "client"`
  Apply it from a Python with the same packages, or plan again: `planapply plan --out FILE`
"""),
    )
    use(THEIRS)
    apply(run, "saved")
    assert installed() == {"scheduler": THEIRS, "cpu-0": THEIRS}
    use(MINE)
    assert "dask 2026.7.0 -> 2026.8.0" in run("plan").err
    apply(run, "--refresh-client")
    assert installed() == {"scheduler": MINE, "cpu-0": MINE}
    assert run("plan").err == ""
    use(THEIRS)
    assert not planapply.plan().changes
    assert [c.name for c in planapply.plan(refresh_client=True).changes] == ["scheduler", "cpu-0"]
    with pytest.raises(TypeError, match="refresh_client together with destroy"):
        planapply.plan(destroy=True, refresh_client=True)
    with pytest.raises(TypeError, match="overrides, targets, replace, refresh_client, or"):
        planapply.apply(plan=planapply.plan(), refresh_client=True)
    planapply.apply(refresh_client=True, approve=True, wait=False, progress=False)
    assert installed() == {"scheduler": THEIRS, "cpu-0": THEIRS}


def test_first_apply_of_a_plan_from_another_python(run: Run, use: Use) -> None:
    run("plan", "--out", "saved")
    use(THEIRS)
    refused = run("apply", "saved", "--auto-approve", "--no-wait")
    assert (refused.code, refused.err) == (
        1,
        snapshot("""\
Error: cannot apply the plan: this Python is not the one that it was made with, and the spec has
`packages = "client"`
  Apply it from a Python with the same packages, or plan again: `planapply plan --out FILE`
"""),
    )
    use(MINE)
    document = json.loads(Path("saved").read_text())
    document["pins"]["client"]["packages"] = ["evil==1"]
    Path("edited").write_text(json.dumps(document))
    assert run("apply", "edited", "--auto-approve", "--no-wait").err == refused.err
    apply(run, "saved")
    assert installed() == {"scheduler": MINE, "cpu-0": MINE}


def test_what_is_kept_ends_with_client_and_with_the_cluster(run: Run, use: Use) -> None:
    apply(run)
    path = Path("planapply.toml")
    path.write_text(CLIENT.replace('"client"', '["dask"]'))
    apply(run)
    assert "client" not in read().pins
    path.write_text(CLIENT)
    use(THEIRS)
    apply(run)
    assert {*installed().values()} == {THEIRS}
    assert run("destroy", "--auto-approve").code == 0
    use(MINE)
    apply(run)
    assert {*installed().values()} == {MINE}


def test_state_is_enough_and_shows_no_secret(run: Run, use: Use) -> None:
    apply(run)
    state = read()
    spec = recorded_spec(state)
    assert spec is not None
    assert spec.environment.packages == MINE
    for options in ((), ("--json",)):
        shown = run("show", *options).out
        assert "tiger-6" not in shown
    assert "Pinned client: " in " ".join(run("show").out.split())
    assert "Python 3.12 with 3 packages" in run("show").out
    Path("planapply.state.json").unlink()
    assert run("recover").code == 0
    use(THEIRS)
    assert run("plan").out.startswith("No changes.")


def test_group_keeps_its_packages_too(run: Run, use: Use) -> None:
    Path("planapply.toml").write_text(
        SPEC.replace("count = 3", 'count = 3\nmax_unavailable = "100%"')
        + '[environment]\npackages = ["dask"]\n[workers.cpu.environment]\npackages = "client"\n'
    )
    apply(run)
    use(THEIRS, "3.13")
    assert run("plan").out.startswith("No changes.")
    packages = installed()
    assert (packages["scheduler"], packages["cpu-2"]) == (("dask",), MINE)
    apply(run, "--refresh-client")
    assert (installed()["scheduler"], installed()["cpu-2"]) == (("dask",), THEIRS)


def test_bad_input(run: Run, use: Use) -> None:
    for options in (["--destroy"], ["--refresh-only"]):
        result = run("plan", "--refresh-client", *options)
        assert (result.code, result.out) == (1, "")
        assert f"cannot combine --refresh-client with {options[0]}" in result.err
    apply(run)
    path = Path("planapply.state.json")
    document = json.loads(path.read_text())
    document["pins"]["client"] = {"python": 3}
    path.write_text(json.dumps(document))
    assert run("show").code == 0
    result = run("plan")
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: cannot use `pins.client` of the state: it is damaged
  Restore an older version of the state, or decide again what `packages = "client"` stands for:
  `planapply apply --refresh-client`
"""),
    )
    apply(run, "--refresh-client")
    Path("planapply.toml").write_text(SPEC)
    result = run("plan", "--refresh-client")
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: cannot refresh the client: no node has `packages = "client"`
  Remove --refresh-client.
"""),
    )
