"""Life of a cluster on OpenStack: Nova itself, through Libcloud's driver."""

import base64
import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli.commands import Run
from conformance.subjects import libcloud_provider
from inline_snapshot import snapshot
from novalab.cloud import Cloud
from order import few

from planapply.provider import ErrorKind, ProviderError

pytestmark = pytest.mark.slow

APPLY = ("apply", "--auto-approve", "--no-wait", "--no-retire")


def spec(cloud: Cloud, workers: int, more: str = "", **provider: str) -> None:
    Path("planapply.toml").write_text(cloud.spec(workers, more, **provider))


def names(cloud: Cloud) -> list[str]:
    """Return the nodes that have VMs."""
    return sorted(server["metadata"]["planapply:names"] for server in cloud.wait_until_idle())


def fixed(text: str, cloud: Cloud) -> str:
    """Return the text without the parts that differ in each run."""
    text = text.replace(cloud.url, "http://CLOUD").replace(cloud.url.split(":")[-1], "PORT")
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "UUID", text)
    return re.sub(r"[0-9a-f]{20}", "TOKEN", text)


def test_cluster_life_cycle(nova: Cloud, run: Run) -> None:
    spec(nova, 3)
    planned = run("plan")
    assert (planned.code, planned.err) == (
        0,
        snapshot("""\

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].
"""),
    )
    assert fixed(planned.out, nova) == snapshot("""\
planapply will change cluster "genomics" (libcloud, openstack):

  +   scheduler         m1.tiny
  +   cpu-[0-2]   (3)   m1.tiny

Plan: 4 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> unknown (no price known for m1.tiny)
Not counted: disks, addresses, traffic.
""")
    assert nova.servers() == []

    assert run(*APPLY).code == 0
    assert names(nova) == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
    server = next(s for s in nova.servers() if s["metadata"]["planapply:names"] == "cpu-0")
    assert re.fullmatch(r"genomics-cpu-0-[0-9a-f]{20}", server["name"])
    assert sorted(server["metadata"]) == [
        "Name",
        "planapply:batch",
        "planapply:cluster",
        "planapply:config",
        "planapply:group",
        "planapply:lineage",
        "planapply:names",
        "planapply:state",
    ]
    assert run("plan", "--detailed-exitcode").code == 0

    spec(nova, 5)
    assert run(*APPLY).code == 0
    assert names(nova) == ["cpu-0", "cpu-1", "cpu-2", "cpu-3", "cpu-4", "scheduler"]

    before = {s["metadata"]["planapply:names"]: s["id"] for s in nova.servers()}
    assert run(*APPLY, "--replace", "cpu-1").code == 0
    after = {s["metadata"]["planapply:names"]: s["id"] for s in nova.wait_until_idle()}
    assert [name for name in after if before[name] != after[name]] == ["cpu-1"]

    spec(nova, 2)
    assert run(*APPLY).code == 0
    assert names(nova) == ["cpu-0", "cpu-1", "scheduler"]

    assert run("destroy", "--auto-approve").code == 0
    assert nova.wait_until_idle() == []


def test_every_vm_gets_its_own_name(nova: Cloud, run: Run) -> None:
    spec(nova, 2)
    assert run(*APPLY).code == 0
    scripts = {name: gzip.decompress(base64.b64decode(data)) for name, data in sent(nova).items()}
    assert sorted(scripts) == ["cpu-0", "cpu-1", "scheduler"]
    for name, script in scripts.items():
        assert f"\nname={name}\n" in script.decode()
        assert b"PRIVATE KEY" in script  # security = "tls" is the default of every cloud


def sent(cloud: Cloud) -> dict[str, str]:
    """Return the user data of each node in the requests to Nova."""
    bodies = [json.loads(body)["server"] for body in cloud.bodies("POST", "/servers")]
    return {body["metadata"]["planapply:names"]: body["user_data"] for body in bodies}


@pytest.mark.parametrize("most", few([4, 12], 1))
def test_list_calls_do_not_grow_with_the_node_count(nova: Cloud, run: Run, most: int) -> None:
    nova.quota(-1)
    calls = []
    for workers in (2, most):
        spec(nova, workers)
        # The calls while the scheduler has no address yet depend on Nova's speed, and are not counted.
        assert run(*APPLY, "--target", "scheduler").code == 0
        nova.clear()
        assert run(*APPLY).code == 0
        calls.append(nova.calls("GET", "/servers/detail"))
        assert run("destroy", "--auto-approve").code == 0
    assert calls[0] == calls[1]


@pytest.mark.parametrize("lost", ["before", "after"])
def test_lost_response_is_resolved_by_listing(nova: Cloud, run: Run, lost: str) -> None:
    spec(nova, 3)
    nova.fault("POST", "/servers", lost=lost, at=3)
    assert run(*APPLY).code == 0
    assert names(nova) == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
    assert run("plan", "--detailed-exitcode").code == 0


def test_accepted_create_is_never_treated_as_refused(nova: Cloud, run: Run) -> None:
    # The driver reads each new server: if that fails, the server may exist nevertheless.
    spec(nova, 1)
    assert run(*APPLY, "--target", "scheduler").code == 0
    nova.fault_any("GET", "/compute/v2.1/servers/", status=404, message="not here yet")
    assert run(*APPLY).code == 0
    assert names(nova) == ["cpu-0", "scheduler"]


def test_quota_stops_apply_and_the_next_apply_continues(nova: Cloud, run: Run) -> None:
    spec(nova, 12)
    result = run(*APPLY, "--parallelism", "1")
    assert result.code == 1
    assert len(nova.wait_until_idle()) == 10
    assert fixed(result.err[result.err.index("Error:") :], nova) == snapshot("""\
Error: cpu-[9-11]: OpenStack: 403 Forbidden Quota exceeded for instances: Requested 1, but already
used 10 of 10 instances
  Request a larger quota from the cloud, or choose another size or zone.
""")
    nova.quota(-1)
    assert run(*APPLY).code == 0
    assert len(names(nova)) == 13


def test_server_in_error_state_is_replaced(nova: Cloud, run: Run) -> None:
    # Nova counts servers that are built: it accepts too many at a time, and the last ones fail.
    nova.quota(3, counts="late")
    spec(nova, 3)
    assert run(*APPLY).code == 0
    failed = [
        s["metadata"]["planapply:names"] for s in nova.wait_until_idle() if s["status"] == "ERROR"
    ]
    assert failed
    planned = run("plan")
    assert f"Plan: {len(failed)} to add, 0 to change, {len(failed)} to destroy." in planned.out
    assert "quota" in run("logs", failed[0]).out.lower()
    status = run("status").out
    assert len(re.findall(r"^\s*cpu-\d .*stopped", status, re.MULTILINE)) == len(failed)
    assert re.search(
        r"or outside of planapply\. See `planapply logs (cpu-\d|NODE)`; run `planapply plan` to see what",
        " ".join(status.split()),
    )
    nova.quota(-1)
    assert run(*APPLY).code == 0
    assert [server["status"] for server in nova.wait_until_idle()] == ["ACTIVE"] * 4


def test_expired_session_is_renewed(nova: Cloud, run: Run) -> None:
    spec(nova, 1)
    assert run(*APPLY).code == 0
    nova.fault("GET", "/servers/detail", status=401, message="The token has expired.")
    assert run("plan", "--detailed-exitcode").code == 0


def test_wrong_password_is_reported(nova: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spec(nova, 1)
    monkeypatch.setenv("OS_PASSWORD", "hunter2-hunter2")
    result = run("plan")
    assert (result.code, result.out) == (1, "")
    assert fixed(result.err, nova) == snapshot("""\
Error: OpenStack: Invalid credentials with the provider
  Check `key` and `secret` under [provider] and their permissions; replace a token that has expired.
""")
    monkeypatch.delenv("OS_PASSWORD")
    assert fixed(run("plan").err, nova) == snapshot("""\
Error: environment variable OS_PASSWORD is not set
  Set it, then retry: [provider] uses it for OpenStack's credentials.
""")


def test_html_response_is_reported(nova: Cloud, run: Run) -> None:
    spec(nova, 1)
    nova.fault("GET", "/flavors/detail", html=True, status=200, times=99)
    assert fixed(run("plan").err, nova) == snapshot("""\
Error: OpenStack responded with a web page
  Check the address (`options` under [provider]), and that this network allows access to it.
""")
    nova.clear()
    nova.fault("POST", "/auth/tokens", html=True, status=404, times=99)
    assert fixed(run("plan").err, nova) == snapshot("""\
Error: OpenStack responded with a web page (404)
  Check the address (`options` under [provider]), and that this network allows access to it.
""")


def test_creates_answered_by_a_proxy_are_looked_up(nova: Cloud, run: Run) -> None:
    spec(nova, 0)
    nova.fault("POST", "/servers", html=True, times=99)
    result = run(*APPLY)
    assert result.code == 1
    assert nova.servers() == []
    output = [line[9:] for line in result.err.splitlines() if "checking" in line]
    assert set(output) == snapshot(
        {
            "scheduler: OpenStack failed (502): 502 Bad Gateway; checking whether the request succeeded"
        }
    )
    assert result.err[result.err.index("Error:") :] == snapshot("""\
Error: scheduler: OpenStack failed (502): 502 Bad Gateway
  The cloud, or a proxy on the way to it, is failing. Retry once it works again.
""")


def test_unknown_names_are_reported(nova: Cloud, run: Run) -> None:
    text = nova.spec(1).replace("m1.tiny", "m1.tny").replace("fakeimage7", "fakimage7")
    text = text.replace("[defaults]", '[defaults]\nzones = ["nvoa"]')
    Path("planapply.toml").write_text(text.replace("private", "privat"))
    assert fixed(run("plan").err, nova) == snapshot("""\
Error: there is no zone 'nvoa'
  Did you mean 'nova'?

Error: there is no size 'm1.tny'
  Did you mean 'm1.tiny' or 'm1.tiny.specs'?

Error: there is no image 'fakimage7'
  Did you mean 'fakeimage7', 'fakeimage6' or 'fakeimage123456'?

Error: there is no network 'privat'
  Did you mean 'private'?
""")


def test_text_in_place_of_a_list_is_refused(nova: Cloud, run: Run) -> None:
    text = nova.spec(0).replace('networks = ["private"]', 'networks = "private"')
    Path("planapply.toml").write_text(text)
    assert fixed(run("plan").err, nova) == snapshot("""\
Error: `create.networks` must be a list
  Write networks = ["private"].
""")


def test_own_security_group_is_created(nova: Cloud, run: Run) -> None:
    spec(nova, 1, allow_from='["203.0.113.0/24"]')
    assert run(*APPLY).code == 0
    [group] = [g for g in nova.groups() if g["name"].startswith("planapply genomics ")]
    rules = {
        (r["protocol"], r["port_range_min"], r["port_range_max"], r["remote_ip_prefix"])
        if r["remote_group_id"] is None
        else ("any", r["remote_group_id"] == group["id"])
        for r in group["security_group_rules"]
        if r["direction"] == "ingress"
    }
    assert rules == {
        ("any", True),
        ("tcp", 8786, 8786, "203.0.113.0/24"),
        ("tcp", 8787, 8787, "203.0.113.0/24"),
    }
    assert {g["name"] for s in nova.wait_until_idle() for g in s["security_groups"]} == {
        group["name"]
    }
    assert run("destroy", "--auto-approve").code == 0
    assert [g["name"] for g in nova.groups()] == ["default"]


def test_foreign_server_in_the_group_is_reported(nova: Cloud, run: Run) -> None:
    spec(nova, 0, allow_from='["203.0.113.0/24"]')
    assert run(*APPLY).code == 0
    [group] = [g for g in nova.groups() if g["name"] != "default"]
    settings = {
        "driver": "openstack",
        "key": "env:OS_USERNAME",
        "secret": "env:OS_PASSWORD",
        "options": nova.settings["options"],
    }
    provider = libcloud_provider(settings)
    catalog = provider.catalog
    with provider.client.borrow_driver() as lib:
        box = lib.create_node(
            name="box",
            size=catalog.size("m1.tiny"),
            image=catalog.image("fakeimage7"),
            networks=[catalog.network("private")],
            ex_security_groups=[SimpleNamespace(name=group["id"])],
        )
    nova.wait_until_idle()
    [resource] = provider.find_resources({"planapply:cluster": "genomics"}).values()
    with pytest.raises(ProviderError) as raised:
        provider.cleanup(resource)
    assert raised.value.kind is ErrorKind.UNAVAILABLE
    output = raised.value.summary.replace(group["id"], "GROUP").replace(box.id, "ID")
    assert output == "security group GROUP is in use by box (ID)"
    nova.remove_all()
    provider.cleanup(resource)


def test_running_vms_join_and_leave_the_group(nova: Cloud, run: Run) -> None:
    spec(nova, 2)
    assert run(*APPLY).code == 0
    ids = {s["id"] for s in nova.wait_until_idle()}
    nova.fault("POST", "/action", status=404, message="no network interface yet")
    spec(nova, 3, allow_from='["203.0.113.0/24"]')
    assert run(*APPLY).code == 0
    [group] = [g["name"] for g in nova.groups() if g["name"] != "default"]
    groups = [{g["name"] for g in s["security_groups"]} for s in nova.wait_until_idle()]
    assert len(groups) == 4
    assert all(group in names for names in groups)

    spec(nova, 3)
    assert run(*APPLY).code == 0
    assert [g["name"] for g in nova.groups()] == ["default"]
    assert {g["name"] for s in nova.wait_until_idle() for g in s["security_groups"]} == {"default"}
    assert ids < {s["id"] for s in nova.servers()}
    assert run("plan", "--detailed-exitcode").code == 0


def test_tags_change_in_place(nova: Cloud, run: Run) -> None:
    spec(nova, 1, 'tags = { team = "bio", old = "1" }\n')
    assert run(*APPLY).code == 0
    ids = {s["id"] for s in nova.wait_until_idle()}
    spec(nova, 1, 'tags = { team = "geo" }\n')
    assert run(*APPLY).code == 0
    [worker] = [s for s in nova.wait_until_idle() if s["metadata"]["planapply:group"] == "cpu"]
    assert {k: v for k, v in worker["metadata"].items() if k in ("team", "old")} == {"team": "geo"}
    assert {s["id"] for s in nova.servers()} == ids
    assert run("plan", "--detailed-exitcode").code == 0


def test_lost_state_is_recovered(nova: Cloud, run: Run) -> None:
    spec(nova, 2)
    assert run(*APPLY).code == 0
    Path("planapply.state.json").unlink()
    assert run("recover").code == 0
    assert "m1.tiny" in run("status").out
    spec(nova, 3)
    assert run("plan").out.splitlines()[-2:] == snapshot(
        ["Cost: unknown (no price known for m1.tiny)", "Not counted: disks, addresses, traffic."]
    )
    assert run("destroy", "--auto-approve").code == 0
    assert nova.wait_until_idle() == []


def test_no_secret_is_stored(nova: Cloud, run: Run) -> None:
    spec(nova, 1)
    output = run(*APPLY)
    plan = run("plan", "--out", "plan", "--json")
    files = [path.read_bytes() for path in Path.cwd().iterdir()]
    everything = b"".join([*files, *(text.encode() for text in (*output[1:], *plan[1:]))])
    assert nova.env["OS_PASSWORD"].encode() not in everything
    assert nova.env["OS_USERNAME"].encode() + b'"' not in everything
