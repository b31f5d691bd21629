"""planapply recover."""

import json
import os
from pathlib import Path

import pytest
from cli import fake_plugin
from cli.commands import Run, without_origin
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply import catalog
from planapply.model.state import Resource, State
from planapply.store import open_store

STATE = "planapply.state.json"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\na\n-----END CERTIFICATE-----\n"
PEM = f"{CERTIFICATE}-----BEGIN PRIVATE KEY-----\na\n-----END PRIVATE KEY-----\n"


def read() -> State:
    state = open_store(STATE).read()
    assert state is not None
    return state


@pytest.fixture
def lost(run: Run, cloud: FakeCloud) -> State:
    """A cluster's state, whose file was deleted."""
    cloud.required_resources["firewall"] = Resource(kind="security_group")
    more = [
        "--set",
        'workers.elastic={ min = 2, max = 4, environment = { env = { A = "1" } } }',
        "--set",
        'cluster.tags={ team = "bio" }',
    ]
    assert run("apply", "--auto-approve", "--no-wait", *more).code == 0
    Path("planapply.toml").write_text(
        Path("planapply.toml")
        .read_text()
        .replace('name = "demo"', 'name = "demo"\ntags = { team = "bio" }')
        + '[workers.elastic]\nmin = 2\nmax = 4\nenvironment.env.A = "1"\n'
    )
    assert run("plan").out.startswith("No changes.")
    state = read()
    os.unlink(STATE)
    return state


def test_recovered_state_has_no_changes_and_can_be_destroyed(
    run: Run, cloud: FakeCloud, lost: State
) -> None:
    assert without_origin(run("plan").err) == snapshot(
        "Warning: cannot create cluster 'demo': N VMs of a cluster with this name exist There is no state of it at planapply.state.json. By its tags, it was launched on DATE by WHO with the state STATE. To change that cluster, pass its state with --state, or set `state` under [cluster]. To create another cluster, choose another `name`, or pass --new-cluster to `planapply apply`. If the state of that cluster is lost, rebuild it with `planapply recover`."
    )
    result = run("recover")
    found = read()
    assert (result.code, result.out.replace(str(found.serial), "SERIAL"), result.err) == (
        0,
        snapshot(
            'The state of cluster "demo" (6 nodes, serial SERIAL) is now in planapply.state.json\n'
        ),
        "",
    )
    display = {"issued": found.issued, "origin": "", "spec": None}
    display |= {"history": read().history, "spend": read().spend}
    # The lifetimes are known by the scheduler only, which does not answer here.
    lost.nodes["scheduler"].lifetimes = None
    assert found == lost.model_copy(update={"serial": found.serial, **display})
    assert found.batches == lost.batches
    assert found.serial > lost.serial + 1_000_000
    assert run("plan") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: at least 4.60 USD/h (list prices of 2025-03-02; no price known for the default size)
Elastic: elastic has 2 nodes (min 2, max 4); its size changes only through `scale` and `adapt`.
"""),
        "",
    )
    assert run("destroy", "--auto-approve").code == 0
    assert not cloud.live_vms()
    assert not cloud.resources


def test_json(run: Run, lost: State) -> None:
    document = json.loads(run("recover", "--json").out)
    assert document == {
        "location": STATE,
        "cluster": "demo",
        "lineage": lost.lineage,
        "serial": read().serial,
        "nodes": ["scheduler", "cpu-0", "cpu-1", "cpu-2", "elastic-0", "elastic-1"],
        "diagnostics": [],
    }


def test_destroy_works_without_a_spec(run: Run, cloud: FakeCloud, lost: State) -> None:
    os.unlink("planapply.toml")
    assert run("recover") == (
        1,
        "",
        snapshot("""\
Error: the spec planapply.toml does not exist
  Select a spec with --file; or select a provider with --provider NAME, and pass its settings with
  `--set 'provider.KEY=VALUE'`.
"""),
    )
    result = run("recover", "demo", "--provider", "fake", "--set", 'provider.region="mars"')
    assert (result.code, result.err) == (
        0,
        snapshot("""\
Warning: no TLS key was recovered; if the cluster uses TLS, no client can connect
  The cloud does not show the user data of a VM. To create a cluster with a new key, run
  `planapply apply --replace scheduler`; to remove this cluster, run `planapply destroy`.

Warning: the configuration of these nodes is unknown: scheduler, cpu-[0-2], elastic-[0-1]
  The spec has changed since these nodes were launched, or none was given, so the next apply would
  replace them. Restore the spec before you apply; `planapply destroy` works without it.
"""),
    )
    assert read().settings == {"region": "mars"}
    assert run("destroy", "--auto-approve").code == 0
    assert not cloud.live_vms()
    assert not cloud.resources


@pytest.mark.parametrize("security", ["none", "tls"])
def test_key_is_read_without_a_spec(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    spec = Path("planapply.toml")
    spec.write_text(spec.read_text().replace('"demo"', f'"demo"\nsecurity = "{security}"'))
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    spec.unlink()
    os.unlink(STATE)

    def secrets(self: object, id: str) -> str:
        return PEM if security == "tls" else "#cloud-config"

    # A class of its own, because Python remembers the capabilities of a class.
    showing = type("Showing", (fake_plugin.Provider,), {"secrets": secrets})
    monkeypatch.setattr(fake_plugin, "Provider", showing)
    result = run("recover", "demo", "--provider", "fake")
    assert result.code == 0
    assert result.err == snapshot("""\
Warning: the configuration of these nodes is unknown: scheduler, cpu-[0-2]
  The spec has changed since these nodes were launched, or none was given, so the next apply would
  replace them. Restore the spec before you apply; `planapply destroy` works without it.
""")
    tls = read().tls
    assert (tls.certificate if tls else None) == (CERTIFICATE if security == "tls" else None)


def test_known_configuration_without_tls_has_no_key(
    run: Run, cloud: FakeCloud, lost: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in the user data may be the user's own."""
    showing = type("Showing", (fake_plugin.Provider,), {"secrets": lambda self, id: PEM})
    monkeypatch.setattr(fake_plugin, "Provider", showing)
    assert run("recover").err == ""
    assert read().tls is None


@pytest.mark.parametrize("has_spec", [True, False])
def test_provider_without_a_name_is_refused(run: Run, cloud: FakeCloud, has_spec: bool) -> None:
    if not has_spec:
        os.unlink("planapply.toml")
    assert run("recover", "--provider", "fake") == (
        1,
        "",
        snapshot("""\
Error: cannot recover a cluster without a spec: no cluster is named
  Name it: `planapply recover --provider fake NAME`. `planapply list --provider fake` shows the
  names.
"""),
    )
    assert run("list", "--provider", "fake").code == 0


def test_changed_spec_is_reported(run: Run, lost: State) -> None:
    Path("planapply.toml").write_text(Path("planapply.toml").read_text() + "processes = 2\n")
    result = run("recover")
    assert (result.code, result.err) == (
        0,
        snapshot("""\
Warning: the configuration of these nodes is unknown: elastic-[0-1]
  The spec has changed since these nodes were launched, or none was given, so the next apply would
  replace them. Restore the spec before you apply; `planapply destroy` works without it.
"""),
    )


def test_existing_state_is_never_overwritten(run: Run, cloud: FakeCloud, lost: State) -> None:
    assert run("recover").code == 0
    before = Path(STATE).read_bytes()
    assert run("recover") == (
        1,
        "",
        snapshot("""\
Error: cannot recover to planapply.state.json: there is a state
  It belongs to cluster 'demo', and is not overwritten. To compare it with what exists, run
  `planapply plan`; to use another location, pass --state.
"""),
    )
    Path(STATE).write_bytes(before[:-9])
    assert run("recover").err.startswith(f"Error: cannot read the state {STATE}\n")
    assert Path(STATE).read_bytes() == before[:-9]


def test_lineage_selects_one_of_two_clusters(run: Run, cloud: FakeCloud, lost: State) -> None:
    assert run("apply", "--auto-approve", "--no-wait", "--new-cluster").code == 0
    other = read().lineage
    os.unlink(STATE)
    result = run("recover")
    both = ", ".join(sorted([lost.lineage, other]))
    assert (result.code, " ".join(result.err.split()).replace(both, "BOTH")) == (
        1,
        snapshot("Error: there are 2 clusters named 'demo' Select one with --lineage: BOTH."),
    )
    short = run("recover", "--lineage", other[:8])
    assert " ".join(short.err.split()).replace(both, "BOTH").replace(
        other[:8], "SHORT"
    ) == snapshot("Error: there is no cluster 'demo' with the lineage 'SHORT' Lineages: BOTH.")
    assert not Path(STATE).exists()
    assert run("recover", "--lineage", other).code == 0
    assert read().lineage == other


def test_nothing_to_recover(run: Run, cloud: FakeCloud) -> None:
    assert run("recover") == (
        1,
        "",
        snapshot("""\
Error: cannot find any VM with the tags of cluster 'demo'
  Run `planapply list` for the clusters of this account; check the region and profile, too.
"""),
    )
    assert run("recover", "other") == (
        1,
        "",
        snapshot("""\
Error: the spec planapply.toml defines cluster 'demo', not 'other'
  Select the cluster's own spec with --file, or use --provider NAME without a spec.
"""),
    )
    assert not Path(STATE).exists()


def test_recover_after_a_partial_apply(run: Run, cloud: FakeCloud, lost: State) -> None:
    """VMs of requests that only the lost state recorded are found, or launched again."""
    cloud.end_vm("i-0003")
    assert run("recover").code == 0
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    names = sorted(str(vm.name) for vm in cloud.live_vms())
    assert names == ["cpu-0", "cpu-1", "cpu-2", "elastic-0", "elastic-1", "scheduler"]


def test_chosen_values_are_recovered(run: Run, cloud: FakeCloud, site: Path) -> None:
    """Sizes and images are part of a VM's configuration, and the default image changes over time."""
    entries = site / "fake_planapply-1.dist-info" / "entry_points.txt"
    entries.write_text("[planapply.providers]\nchoosing = cli.choosing_plugin:PLUGIN\n")
    catalog._entries.cache_clear()
    Path("planapply.toml").write_text(
        '[cluster]\nname = "demo"\nprovider = "choosing"\n[workers.cpu]\ncount = 2\ncpus = 4\n'
    )
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    lost = read()
    assert lost.pins == {
        "sizes": {"": ["small"], "cpus=4": ["large", "small"]},
        "defaults": {"small": {"image": "image-1"}, "large,small": {"image": "image-2"}},
    }
    os.unlink(STATE)
    assert run("recover").err == ""
    display = {"issued": read().issued, "origin": "", "spec": None}
    display |= {"history": read().history, "spend": read().spend}
    lost.nodes["scheduler"].lifetimes = None
    assert read() == lost.model_copy(update={"serial": read().serial, **display})
    assert run("plan").out.startswith("No changes.")


def test_unrecoverable_key_is_reported(run: Run, cloud: FakeCloud) -> None:
    spec = Path("planapply.toml")
    spec.write_text(spec.read_text().replace('"demo"', '"demo"\nsecurity = "tls"'))
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    os.unlink(STATE)
    result = run("recover")
    assert (result.code, result.err) == (
        0,
        snapshot("""\
Warning: the TLS key was not recovered; no client can connect
  The cloud does not show the user data of a VM. To create a cluster with a new key, run
  `planapply apply --replace scheduler`; to remove this cluster, run `planapply destroy`.
"""),
    )
    assert read().tls is None
    assert run("plan").out.startswith("No changes.")
    assert run("destroy", "--auto-approve").code == 0
    assert not cloud.live_vms()


@pytest.mark.parametrize("lineage", ["x\nDone.", "\u2028", "\x1b[2J", ""])
def test_lineage_that_makes_lines_of_output_is_no_cluster(
    run: Run, cloud: FakeCloud, lost: State, lineage: str
) -> None:
    cloud.spoof(
        planapply_cluster="demo",
        planapply_lineage=lineage,
        planapply_batch="made-up",
        planapply_names="cpu-0",
    )
    result = run("recover")
    assert (result.code, read().lineage) == (0, lost.lineage)
    assert "Done." not in result.err


def test_configuration_in_a_tag_that_is_no_digest_is_unknown(
    run: Run, cloud: FakeCloud, lost: State
) -> None:
    [machine] = [m for m in cloud.machines.values() if m.vm.name == "cpu-0"]
    tags = {**machine.vm.tags, "planapply:config": "a\nb"}
    machine.vm = machine.vm.model_copy(update={"tags": tags})
    result = run("recover")
    assert (result.code, read().nodes["cpu-0"].config) == (0, "")
