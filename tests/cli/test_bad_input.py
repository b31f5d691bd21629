"""Broken states, locks, and buckets: one clear error, and nothing is lost."""

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import obstore
import pytest
from cli.commands import Result, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot
from lab.fixtures import aws  # noqa: F401
from lab.honest import Cloud

from planapply.cli.errors import expected_diagnostics
from planapply.model.state import State
from planapply.provider import LaunchRequest, LaunchResult
from planapply.store import open_store
from planapply.store.bucket import open_bucket

STATE = "planapply.state.json"
READING = (
    ["plan"],
    ["status"],
    ["output"],
    ["show"],
    ["state", "list"],
    ["state", "show", "scheduler"],
    ["state", "pull", "copy"],
    ["logs", "scheduler"],
)
CHANGING = (
    ["apply", "--auto-approve", "--no-wait"],
    ["destroy", "--auto-approve"],
    ["state", "rm", "scheduler"],
    ["state", "push", "good"],
    ["recover"],
)


@pytest.fixture
def applied(run: Run, cloud: FakeCloud) -> FakeCloud:
    """A cluster, and a copy of its state in `good`."""
    assert run("apply", "--auto-approve", "--no-wait", "--parallelism", "1").code == 0
    assert run("state", "pull", "good").code == 0
    return cloud


def read(place: str = STATE) -> State:
    state = open_store(place).read()
    assert state is not None
    return state


def fixed(err: str) -> str:
    """Return only the error, in one line, since the length of paths varies; without parts that vary."""
    err = " ".join(err[err.index("Error:") :].split())
    err = err.replace(os.getcwd(), "HERE").replace(os.environ["HOME"], "HOME")
    return re.sub(r"\b[0-9a-f]{8}\b", "LOCK", re.sub(r"\d+ bytes", "N bytes", err))


def good() -> dict[str, object]:
    document: dict[str, object] = json.loads(Path("good").read_bytes())
    return document


DAMAGES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "truncated": lambda: Path("good").read_bytes()[:100],
    "damaged": lambda: Path("good").read_bytes().replace(b'"serial": ', b'"serial" '),
    "no text": lambda: b"\x80\x04\x95" * 100,
    "other JSON": lambda: b'["nodes"]',
    "Terraform's": lambda: b'{"version": 4, "terraform_version": "1.9.0", "serial": 3}',
    "of the future": lambda: json.dumps(
        {**good(), "format_version": 7, "planapply_version": "9.1", "future": "unknown"}
    ).encode(),
    "of a wrong type": lambda: json.dumps({**good(), "nodes": [1, 2]}).encode(),
    "with an unknown key": lambda: json.dumps({**good(), "future": "unknown"}).encode(),
}
SAID = {
    "empty": snapshot(
        "Error: cannot read the state planapply.state.json It is empty. The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from the VMs' tags with `planapply recover`."
    ),
    "truncated": snapshot(
        "Error: cannot read the state planapply.state.json It is truncated (N bytes): EOF while parsing a string at line 4 column 45. The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from the VMs' tags with `planapply recover`."
    ),
    "damaged": snapshot(
        "Error: cannot read the state planapply.state.json It is damaged, or not JSON (N bytes): expected `:` at line 5 column 11. The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from the VMs' tags with `planapply recover`."
    ),
    "no text": snapshot(
        "Error: cannot read the state planapply.state.json It is damaged, or not JSON (N bytes): expected value at line 1 column 1. The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from the VMs' tags with `planapply recover`."
    ),
    "other JSON": snapshot(
        "Error: planapply.state.json is not a planapply state It is JSON, but has no format_version. Use another location for the state: `state` in the spec, or --state."
    ),
    "Terraform's": snapshot(
        "Error: planapply.state.json is not a planapply state It is a Terraform state. Use another location for the state: `state` in the spec, or --state."
    ),
    "of the future": snapshot(
        "Error: cannot read the state planapply.state.json: it was written by a newer planapply The state has format 7 (planapply 9.1); this planapply supports up to format 2. Upgrade planapply: pip install --upgrade planapply"
    ),
    "of a wrong type": snapshot(
        "Error: cannot read the state planapply.state.json It is JSON, but not a valid state: nodes: must be a table The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from the VMs' tags with `planapply recover`."
    ),
    "with an unknown key": snapshot(
        "Error: cannot read the state planapply.state.json: it was written by a newer planapply It has unknown keys: future. This is planapply 0.1.0. Upgrade planapply: pip install --upgrade planapply"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_unreadable_state_is_left_unchanged(run: Run, applied: FakeCloud, damage: str) -> None:
    content = DAMAGES[damage]()
    Path(STATE).write_bytes(content)
    for command in (*READING, *CHANGING):
        result = run(*command)
        assert (result.code, result.out, fixed(result.err)) == (1, "", SAID[damage]), command
    assert Path(STATE).read_bytes() == content
    assert len(applied.live_vms()) == 4
    assert sorted(os.listdir()) == ["good", STATE, "planapply.toml"]


def test_state_that_is_not_a_file_is_refused(run: Run, applied: FakeCloud) -> None:
    os.unlink(STATE)
    os.mkdir(STATE)
    assert run("plan") == (
        1,
        "",
        snapshot("""\
Error: cannot read the state planapply.state.json: not a regular file
  Choose another location with `state` in the spec, or with --state.
"""),
    )
    os.rmdir(STATE)
    os.mkfifo(STATE)
    assert run("apply", "--auto-approve") == (1, "", run("plan").err)


def test_missing_state_is_reported(run: Run, cloud: FakeCloud) -> None:
    for command in (["status"], ["state", "rm", "cpu-0"], ["show"]):
        assert run(*command) == (
            1,
            "",
            snapshot("""\
Error: there is no state at planapply.state.json
  Run `planapply apply` first; or, if the state is elsewhere, pass --state. `planapply list` shows
  clusters whose state is elsewhere or lost.
"""),
        )


def test_missing_folder_is_reported(run: Run, cloud: FakeCloud) -> None:
    result = run("apply", "--auto-approve", "--state", "none/x.json")
    assert (result.code, result.out) == (1, "")
    assert fixed(result.err) == snapshot(
        "Error: cannot lock the state none/x.json: its folder does not exist Choose another location with `state` in the spec or --state, or create the folder: mkdir -p HERE/none"
    )
    assert not cloud.machines


def test_invalid_lock_files_are_ignored(run: Run, applied: FakeCloud) -> None:
    """A file that a dead process left is not a lock, whatever it contains."""
    for content in (b"", b"\xff\x00", b"{}", b'{"id": "1", "future": "unknown"}'):
        Path(f"{STATE}.lock").write_bytes(content)
        assert run("apply", "--no-wait").code == 0
        assert not Path(f"{STATE}.lock").exists()
    os.mkdir(f"{STATE}.lock")
    result = run("apply")
    assert (result.code, result.out) == (1, "")
    assert fixed(result.err) == snapshot(
        "Error: cannot lock the state planapply.state.json Is a directory: HERE/planapply.state.json.lock"
    )
    assert run("plan").code == 0


def disturb(cloud: FakeCloud, what: Callable[[], object]) -> None:
    """Call `what` once, during the first launch request of an apply."""
    launch, happened = cloud.launch, []

    def disturbed(request: LaunchRequest) -> LaunchResult:
        result = launch(request)
        if not happened:
            happened.append(what())
        return result

    cloud.launch = disturbed  # type: ignore[method-assign]


def apply_and_fail(run: Run) -> Result:
    result = run("apply", "--auto-approve", "--no-wait", "--parallelism", "1")
    assert result.code == 1
    assert result.err.count("Error:") == 1
    assert "Traceback" not in result.err
    return result


def carry_on(run: Run, cloud: FakeCloud, *options: str) -> None:
    """Check that the next apply finds every VM, and launches the others once."""
    result = run("apply", "--auto-approve", "--no-wait", *options)
    assert result.code == 0, result.err
    names = sorted(str(vm.name) for vm in cloud.live_vms())
    assert names == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
    assert run("plan", *options).out.startswith("No changes.")


def printed_command(err: str) -> list[str]:
    """Return the arguments of the printed command that restores the newer state."""
    text = err.replace("\n", " ")
    command = text[text.index("planapply state push") :]
    return shlex.split(command)[1:]


def test_state_deleted_during_an_apply(run: Run, cloud: FakeCloud) -> None:
    disturb(cloud, lambda: os.unlink(STATE))
    assert fixed(apply_and_fail(run).err) == snapshot(
        "Error: the state planapply.state.json was changed by another process It was deleted after it was read. It was not overwritten, and no further cloud requests will be made. The new version was saved to HERE/planapply.state.unsaved-3.json Unless the state was moved elsewhere, restore it: planapply state push HERE/planapply.state.unsaved-3.json --state planapply.state.json"
    )
    assert not Path(STATE).exists()
    (saved,) = Path().glob("*.unsaved-*.json")
    assert [record.vm for record in read(str(saved)).nodes.values()] == ["i-0000"]
    assert run("state", "push", str(saved)).code == 0
    carry_on(run, cloud)


def test_state_written_by_another_process_during_an_apply(run: Run, cloud: FakeCloud) -> None:
    def interfere() -> None:
        state = read()
        state.serial += 1
        Path(STATE).write_text(state.model_dump_json())

    disturb(cloud, interfere)
    assert fixed(apply_and_fail(run).err) == snapshot(
        "Error: the state planapply.state.json was changed by another process Another process wrote it after it was read. It was not overwritten, and no further cloud requests will be made. Run `planapply plan`: it finds VMs that are missing from the state by their tags. The new version was saved to HERE/planapply.state.unsaved-3.json"
    )
    carry_on(run, cloud)


def test_lock_released_by_another_process_during_an_apply(run: Run, cloud: FakeCloud) -> None:
    disturb(cloud, lambda: os.unlink(f"{STATE}.lock"))
    assert fixed(apply_and_fail(run).err) == snapshot(
        "Error: the state planapply.state.json was changed by another process Another process released this process's lock LOCK. It was not overwritten, and no further cloud requests will be made. Run `planapply plan`: it finds VMs that are missing from the state by their tags. The new version was saved to HERE/planapply.state.unsaved-3.json"
    )
    assert len(cloud.live_vms()) == 1  # no further request was sent
    carry_on(run, cloud)


def test_state_damaged_during_an_apply(run: Run, cloud: FakeCloud) -> None:
    disturb(cloud, lambda: Path(STATE).write_text("oh"))
    assert fixed(apply_and_fail(run).err) == snapshot(
        "Error: the state planapply.state.json was changed by another process Another process wrote it after it was read. It was not overwritten, and no further cloud requests will be made. Run `planapply plan`: it finds VMs that are missing from the state by their tags. The new version was saved to HERE/planapply.state.unsaved-3.json"
    )
    assert Path(STATE).read_text() == "oh"
    (saved,) = Path().glob("*.unsaved-*.json")
    os.replace(saved, STATE)
    carry_on(run, cloud)


def test_folder_deleted_during_an_apply(run: Run, cloud: FakeCloud) -> None:
    os.mkdir("states")
    place = "states/x.json"
    disturb(cloud, lambda: shutil.rmtree("states"))
    result = run("apply", "--auto-approve", "--no-wait", "--parallelism", "1", "--state", place)
    assert (result.code, fixed(result.err)) == (
        1,
        snapshot(
            "Error: the state states/x.json was changed by another process Another process released this process's lock LOCK. It was not overwritten, and no further cloud requests will be made. The new version was saved to HERE/states/x.unsaved-3.json Unless the state was moved elsewhere, restore it: planapply state push HERE/states/x.unsaved-3.json --state states/x.json"
        ),
    )
    (saved,) = Path("states").iterdir()
    assert run("state", "push", str(saved), "--state", place).code == 0
    carry_on(run, cloud, "--state", place)


def test_full_disk_is_reported_with_the_recovery_steps(run: Run, cloud: FakeCloud) -> None:
    """The state cannot be written, as on a full disk; it is saved in the same folder."""
    disturb(cloud, lambda: os.mkdir(f"{STATE}.tmp"))
    err = apply_and_fail(run).err
    assert fixed(err) == snapshot(
        "Error: cannot write the state planapply.state.json: Is a directory The previous version is unchanged. The new version was saved to HERE/planapply.state.unsaved-3.json Fix the cause, then restore it: planapply state push HERE/planapply.state.unsaved-3.json --state planapply.state.json"
    )
    assert read().intents
    assert not read().nodes
    os.rmdir(f"{STATE}.tmp")
    assert run(*printed_command(err)).code == 0
    assert list(read().nodes) == ["scheduler"]
    carry_on(run, cloud)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("only root can mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), open(folder / "filler", "ab", buffering=0) as file:
        while True:
            file.write(b"x" * 256)


def freeze(folder: Path) -> None:
    subprocess.run(["mount", "--bind", "-o", "ro", str(folder), str(folder)], check=True)


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_real_disk_that_is_full_or_read_only(
    run: Run, cloud: FakeCloud, small: Path, trouble: str
) -> None:
    place = str(small / "x.json")
    disturb(cloud, lambda: fill(small) if trouble == "full" else freeze(small))
    arguments = ["apply", "--auto-approve", "--no-wait", "--parallelism", "1", "--state", place]
    result = run(*arguments)
    assert result.code == 1
    said = fixed(result.err).replace(str(small), "SMALL")
    assert (
        said
        == {
            "full": snapshot(
                "Error: cannot write the state SMALL/x.json: No space left on device The previous version is unchanged. The new version was saved to HOME/.local/state/planapply/x.unsaved-3.json Fix the cause, then restore it: planapply state push HOME/.local/state/planapply/x.unsaved-3.json --state SMALL/x.json"
            ),
            "read-only": snapshot(
                "Error: cannot write the state SMALL/x.json: Read-only file system The previous version is unchanged. The new version was saved to HOME/.local/state/planapply/x.unsaved-3.json Fix the cause, then restore it: planapply state push HOME/.local/state/planapply/x.unsaved-3.json --state SMALL/x.json"
            ),
        }[trouble]
    )
    assert not read(place).nodes
    # Before the disk is fixed, another apply reports the error, and sends no requests.
    assert run(*arguments).code == 1
    assert len(cloud.live_vms()) == 1
    if trouble == "full":
        os.unlink(small / "filler")
    else:
        subprocess.run(["umount", str(small)], check=True)
    assert run(*printed_command(result.err)).code == 0
    carry_on(run, cloud, "--state", place)


S3 = "s3://states/x.json"


@pytest.fixture
def bucket(aws: Cloud) -> Cloud:  # noqa: F811
    urllib.request.urlopen(urllib.request.Request(f"{aws.url}/states", b"", method="PUT")).close()
    return aws


FAULTS: dict[str, dict[str, object]] = {
    "refuses": {"error": "AccessDenied", "status": 403},
    "fails": {"error": "InternalError", "status": 500},
    "is busy": {"error": "SlowDown", "status": 503},
    "answers 409": {"error": "ConditionalRequestConflict", "status": 409},
    "answers 412": {"error": "PreconditionFailed", "status": 412},
}
WHILE_WRITING = {
    "refuses": snapshot(
        "Error: cannot write the state s3://states/x.json: access denied (403 AccessDenied) Check which credentials are in use, and that they allow reading, writing, and deleting s3://states/x.json and s3://states/x.json.lock. The previous version is unchanged. The new version was saved to HERE/x.unsaved-3.json Fix the cause, then restore it: planapply state push HERE/x.unsaved-3.json --state s3://states/x.json"
    ),
    "fails": snapshot(
        "Error: cannot write the state s3://states/x.json: the storage endpoint responded 500 InternalError Try again later. The previous version is unchanged. The new version was saved to HERE/x.unsaved-3.json Fix the cause, then restore it: planapply state push HERE/x.unsaved-3.json --state s3://states/x.json"
    ),
    "is busy": snapshot(
        "Error: cannot write the state s3://states/x.json: the storage endpoint responded 503 SlowDown Try again later. The previous version is unchanged. The new version was saved to HERE/x.unsaved-3.json Fix the cause, then restore it: planapply state push HERE/x.unsaved-3.json --state s3://states/x.json"
    ),
    "answers 409": snapshot(
        "Error: cannot write the state s3://states/x.json: the storage endpoint responded 409 ConditionalRequestConflict Try again later. The previous version is unchanged. The new version was saved to HERE/x.unsaved-3.json Fix the cause, then restore it: planapply state push HERE/x.unsaved-3.json --state s3://states/x.json"
    ),
    "answers 412": snapshot(
        "Error: cannot write the state s3://states/x.json: the storage endpoint responded 412 PreconditionFailed Try again later. The previous version is unchanged. The new version was saved to HERE/x.unsaved-3.json Fix the cause, then restore it: planapply state push HERE/x.unsaved-3.json --state s3://states/x.json"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_bucket_that_refuses_writes_during_an_apply(
    run: Run, cloud: FakeCloud, bucket: Cloud, fault: str
) -> None:
    disturb(cloud, lambda: bucket.fault("s3:PutObject", times=None, **FAULTS[fault]))
    result = run("apply", "--auto-approve", "--no-wait", "--parallelism", "1", "--state", S3)
    assert result.code == 1
    assert fixed(result.err) == WHILE_WRITING[fault]
    bucket.clear()
    assert not read(S3).nodes
    assert open_store(S3).lock_info() is None
    assert run(*printed_command(result.err)).code == 0
    carry_on(run, cloud, "--state", S3)


WHILE_READING = {
    "refuses": snapshot(
        "Error: cannot reach the state s3://states/x.json: access denied (403 AccessDenied) Check which credentials are in use, and that they allow reading, writing, and deleting s3://states/x.json and s3://states/x.json.lock."
    ),
    "fails": snapshot(
        "Error: cannot reach the state s3://states/x.json: the storage endpoint responded 500 InternalError Try again later."
    ),
    "is busy": snapshot(
        "Error: cannot reach the state s3://states/x.json: the storage endpoint responded 503 SlowDown Try again later."
    ),
    "answers 409": snapshot(
        "Error: cannot reach the state s3://states/x.json: the storage endpoint responded 409 ConditionalRequestConflict Try again later."
    ),
    "answers 412": snapshot(
        "Error: cannot reach the state s3://states/x.json: the storage endpoint responded 412 PreconditionFailed Try again later."
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_failed_bucket_reads_are_reported(
    run: Run, cloud: FakeCloud, bucket: Cloud, fault: str
) -> None:
    bucket.fault("s3:GetObject", times=None, **FAULTS[fault])
    result = run("plan", "--state", S3)
    assert (result.code, result.out) == (1, "")
    assert fixed(result.err) == WHILE_READING[fault]
    assert run("apply", "--auto-approve", "--state", S3).code == 1
    assert not cloud.machines


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 9))
def test_lost_bucket_response_is_retried(
    run: Run, cloud: FakeCloud, bucket: Cloud, lost: str, at: int
) -> None:
    bucket.fault("s3:PutObject", lost=lost, at=at)
    bucket.fault("s3:GetObject", delay=0.3, times=2)
    carry_on(run, cloud, "--state", S3)
    assert open_store(S3).lock_info() is None


def test_missing_bucket_is_reported(run: Run, cloud: FakeCloud, aws: Cloud) -> None:  # noqa: F811
    assert run("plan", "--state", S3) == (
        1,
        "",
        snapshot("""\
Error: cannot reach the state s3://states/x.json: s3://states does not exist (404 NoSuchBucket)
  Create it, or choose another one.
"""),
    )
    result = run("apply", "--auto-approve", "--state", "s3://states")
    assert result == (
        1,
        "",
        snapshot("""\
Error: 's3://states' is not a valid location for a state
  Use a path, s3://bucket/key, gs://bucket/key or az://container/key.
"""),
    )
    assert not cloud.machines


def test_damaged_state_in_a_bucket_is_reported(run: Run, cloud: FakeCloud, bucket: Cloud) -> None:
    carry_on(run, cloud, "--state", S3)
    obstore.put(open_bucket("s3", "states", S3), "x.json", b'{"format_ve')
    for command in (["plan"], ["destroy", "--auto-approve"]):
        assert run(*command, "--state", S3) == (
            1,
            "",
            snapshot("""\
Error: cannot read the state s3://states/x.json
  It is truncated (11 bytes): EOF while parsing a string at line 1 column 11.
  The file is unchanged. Replace it with a good copy; or move it away, and rebuild the state from
  the VMs' tags with `planapply recover --state s3://states/x.json`.
"""),
        )
    assert len(cloud.live_vms()) == 4


def test_spec_is_not_its_own_state(run: Run, cloud: FakeCloud) -> None:
    spec = Path("planapply.toml")
    before = spec.read_text().replace('"demo"', '"demo"\nstate = "./planapply.toml"')
    spec.write_text(before)
    for command in ("validate", "plan", "destroy", "status"):
        result = run(command)
        assert (result.code, result.out) == (1, "")
        assert result.err == snapshot("""\
Error: `cluster.state` is the spec itself
 --> planapply.toml:3:1
  |
3 | state = "./planapply.toml"
  | ^^^^^
  Write `state = "planapply.state.json"`.
""")
    assert spec.read_text() == before
    Path("link.toml").symlink_to("planapply.toml")
    assert run("validate", "-f", "link.toml").code == 1
    assert run("plan", "--set", 'cluster.state="../work/planapply.toml"').err == snapshot("""\
Error: --set cluster.state="../work/planapply.toml": `cluster.state` is the spec itself
  Write `state = "planapply.state.json"`.
""")
    assert run("validate", "--set", 'cluster.state="s3://planapply.toml/x"').code == 0


@pytest.mark.parametrize("text", ["a: [b", "[1, 2]", "token: tiger-1\n  x: : y"])
def test_malformed_configuration_of_dask_is_reported(tmp_path: Path, text: str) -> None:
    import dask.config

    path = tmp_path / "dask.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="malformed") as raised:
        dask.config.collect([str(path)], env={})
    [diagnostic] = expected_diagnostics(raised.value)
    assert diagnostic.summary == f"cannot read Dask's configuration {path}"
    assert "tiger" not in str(diagnostic)


def test_malformed_variable_of_dask_is_reported() -> None:
    import dask.config

    with pytest.raises(ValueError, match=r".") as raised:
        dask.config.collect_env({"DASK_INTERNAL_INHERIT_CONFIG": "x"})
    [diagnostic] = expected_diagnostics(raised.value)
    assert str(diagnostic) == snapshot(
        "cannot read Dask's configuration\n"
        "Correct the file, or the variables whose names begin with DASK_. Each file is YAML with a mapping "
        "at its top."
    )
    assert not expected_diagnostics(ValueError("of planapply itself"))
