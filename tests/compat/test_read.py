"""States and consoles of earlier code: read, without changes, and never rewritten."""

import json
import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from cli.commands import Run
from compat.kept import BUCKET, FIXTURES, STATE, Site, exports, revived

CLUSTERS = ("ec2-full", "ec2-plain", "libcloud-ec2")
READING = (
    ("show",),
    ("show", "--json"),
    ("plan", "--no-refresh"),
    ("plan", "--set", "workers.cpu.count=4"),
    ("plan", "--lock-timeout", "1 s"),
    ("state", "list"),
    ("state", "show", "cpu-0", "--json"),
    ("output", "--json"),
    ("env",),
    ("list", "--json"),
    ("logs", "cpu-0"),
    ("validate",),
)


def documents(cluster: str) -> dict[str, Any]:
    """Return every file of the folder or object of the bucket, with what shows that it was rewritten."""
    if cluster == "ec2-plain":
        s3: Any = boto3.client("s3")
        found = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        return {
            item["Key"]: (
                item["LastModified"],
                s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read(),
            )
            for item in found
        }
    return {
        name: (Path(name).stat().st_ino, Path(name).stat().st_mtime_ns, Path(name).read_bytes())
        for name in os.listdir()
    }


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_reading_commands_see_no_changes_and_never_migrate_a_file(cluster: str, run: Run) -> None:
    with revived(cluster, "applied", run) as site:
        before = documents(cluster)
        kept = json.loads((FIXTURES / cluster / "applied.state.json").read_text())
        site.has_no_changes()
        assert site.run("plan", "--detailed-exitcode").out.startswith("No changes. ")
        site.run("plan", "--refresh-only", "--detailed-exitcode")
        status = json.loads(site.run("status", "--json").out)
        assert (status["drift"], status["unknown_vms"], status["lock"]) == ([], [], None)
        assert {node["status"] for node in status["nodes"]} == {"running"}
        for command in READING:
            site.run(*command)
        assert site.in_state() == {name: node["vm"] for name, node in kept["nodes"].items()}
        assert site.in_state() == site.vms()
        assert documents(cluster) == before
        assert site.writes() == []
        [listed] = json.loads(site.run("list", "--json").out)["clusters"]
        assert (listed["cluster"], listed["lineage"]) == (kept["cluster"], kept["lineage"])
        assert listed["state"] is not None


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_an_apply_of_the_same_spec_changes_no_vm(cluster: str, run: Run) -> None:
    with revived(cluster, "applied", run) as site:
        vms = site.vms()
        assert site.apply().out.startswith("No changes. ")
        assert site.writes() == []
        assert site.in_state() == site.vms() == vms
        site.has_no_changes()


def test_the_key_of_a_kept_state_is_for_clients(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        variables = exports(site.run("env").out)
        tls = json.loads((site.kept / "applied.state.json").read_text())["tls"]
        files = {"CA_FILE": "certificate", "CLIENT__CERT": "certificate", "CLIENT__KEY": "key"}
        for name, part in files.items():
            assert Path(variables[f"DASK_DISTRIBUTED__COMM__TLS__{name}"]).read_text() == tls[part]
        assert variables["DASK_SCHEDULER_ADDRESS"] == "tls://127.2.0.1:8786"
        assert tls["key"] not in "".join(
            site.run(*command).out for command in (("show",), ("show", "--json"))
        )


def test_a_kept_state_that_fits_no_vm_shows_changes(run: Run) -> None:
    """The proof that these tests can fail: another digest in the state is another plan."""
    with revived("ec2-full", "applied", run) as site:
        old = Path(STATE).read_text()
        digest = json.loads(old)["nodes"]["cpu-0"]["config"]
        Path(STATE).write_text(old.replace(f'"config": "{digest}"', f'"config": "{digest[::-1]}"'))
        planned = site.run("plan", "--json", "--detailed-exitcode", code=2).out
        assert {change["name"] for change in json.loads(planned)["changes"]} == {"cpu-0", "cpu-1"}
        Path(STATE).write_text(old.replace("i-0000000000000000", "i-000000000000000f"))
        site.run("plan", "--detailed-exitcode", code=2)
        Path(STATE).write_text(old)
        site.run("plan", "--detailed-exitcode", "--set", "workers.cpu.options={nthreads=3}", code=2)
        site.has_no_changes()


def test_a_kept_state_is_pulled_and_pushed(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        site.run("state", "pull", "copy.json")
        Path(STATE).rename("old.json")
        site.run("state", "push", "old.json")
        site.has_no_changes()
        site.run("state", "push", "copy.json")
        site.has_no_changes()
        site.destroy()
        site.nothing_is_left()
        # An earlier state must not replace a later one.
        assert "old.json" in os.listdir()
        site.run("state", "push", "old.json", code=1)


def test_a_bucket_takes_a_kept_state(run: Run) -> None:
    with revived("ec2-plain", "applied", run) as site:
        assert isinstance(site, Site)
        site.run("state", "pull", "copy.json")
        site.run("state", "rm", "cpu-0")
        assert "cpu-0" not in site.in_state()
        site.apply()  # the VM is adopted by its tags
        assert site.in_state() == site.vms()
        site.has_no_changes()


CONSOLE = b"""\
planapply: start of the Dask process
distributed.nanny - INFO - Closing Nanny
planapply: end of the Dask process, and so of this VM
[ OK ] Reached target poweroff.target
"""
"""The output of a node that earlier code launched; its last line is the machine's shutdown."""


def test_the_console_of_a_kept_node_is_read(run: Run) -> None:
    with revived("ec2-full", "applied", run) as site:
        site.cloud.ec2.console = lambda id: CONSOLE
        assert site.run("logs", "cpu-0").out.splitlines()[-2:] == [
            "distributed.nanny - INFO - Closing Nanny",
            "planapply: end of the Dask process, and so of this VM",
        ]
