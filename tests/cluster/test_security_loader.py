"""`planapply.security_loader`: the cluster's TLS for its own addresses, nothing for any other, and never an error."""

import logging
import os
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Security

import planapply
from planapply.model.state import TLS, Endpoint, State
from planapply.store import codec, open_store

PRIVATE, PUBLIC = "tls://10.0.0.5:8786", "tls://[2001:db8::1]:8786"
SECRET = "do-not-print-this"


@pytest.fixture(scope="module")
def tls() -> TLS:
    """A key pair."""
    security = Security.temporary()  # type: ignore[no-untyped-call]
    return TLS(certificate=security.tls_client_cert, key=security.tls_client_key)


@pytest.fixture
def state(tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a state, named by PLANAPPLY_STATE."""
    path = tmp_path / "zoo.state.json"
    write(path, tls)
    monkeypatch.setenv("PLANAPPLY_STATE", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def write(path: Path, tls: TLS | None, private: str = PRIVATE) -> None:
    endpoint = Endpoint(private=private, public=PUBLIC)
    state = State(lineage="1", cluster="zoo", provider="local", tls=tls, endpoint=endpoint)
    path.write_bytes(codec.encode(state))


def load(address: Any) -> Security | None:
    return planapply.security_loader({"address": address})


@pytest.mark.parametrize("address", [PRIVATE, PUBLIC, "tls://[2001:DB8:0:0::1]:08786"])
def test_each_address_of_the_scheduler_gets_the_key(state: Path, tls: TLS, address: str) -> None:
    security = load(address)
    assert security is not None
    assert security.require_encryption
    assert (security.tls_client_cert, security.tls_ca_file) == (tls.certificate, tls.certificate)
    assert security.tls_client_key == tls.key.get_secret_value()


@pytest.mark.parametrize(
    "address",
    [
        "tls://10.0.0.5:8787",
        "tls://10.0.0.55:8786",
        "tcp://10.0.0.5:8786",
        "10.0.0.5:8786",
        "tls://10.0.0.5",
        "tls://10.0.0.5:8786@evil.example:8786",
        "tls://evil.example:8786/10.0.0.5:8786",
        "tls://evil.example/tls://10.0.0.5:8786",
        "tls://user@10.0.0.5:8786",
        "tls://10.0.0.5\0:8786",
        "inproc://10.0.0.5/1/1",
        f"tls://10.0.0.5:{'9' * 10_000}",
        "",
        None,
        8786,
        b"tls://10.0.0.5:8786",
        ["tls://10.0.0.5:8786"],
    ],
)
def test_any_other_address_gets_nothing(
    state: Path, address: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(address) is None
    assert caplog.messages == []


@pytest.mark.parametrize("info", [{}, None, "tls://10.0.0.5:8786", [], 1])
def test_any_other_argument_gets_nothing(state: Path, info: Any) -> None:
    assert planapply.security_loader(info) is None


def test_cluster_without_tls_gets_the_default(state: Path) -> None:
    write(state, None, "tcp://10.0.0.5:8786")
    security = load("10.0.0.5:8786")
    assert isinstance(security, Security)
    assert not security.require_encryption
    assert load(PRIVATE) is None


def test_spec_of_the_current_folder_is_the_default(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PLANAPPLY_STATE")
    assert load(PRIVATE) is None
    assert caplog.messages == []  # the setting may be in a file for all folders
    Path("planapply.toml").write_text('[cluster]\nname = "zoo"\nstate = "zoo.state.json"\n')
    assert load(PRIVATE) is not None
    monkeypatch.setenv("PLANAPPLY_STATE", "other.state.json")
    assert load(PRIVATE) is None


def break_state(state: Path, tls: TLS, how: str) -> None:
    """Make the state unusable in one way."""
    match how:
        case "missing":
            state.unlink()
        case "folder":
            state.unlink()
            state.mkdir()
        case "pipe":
            state.unlink()
            os.mkfifo(state)
        case "key":
            write(state, TLS(certificate=tls.certificate, key=SECRET))
        case "certificate":
            write(state, TLS(certificate=f"{SECRET}\n", key=tls.key))
        case "endpoint":
            state.write_text(state.read_text().replace(PUBLIC, f"tls://{SECRET}"))
        case "nested":
            state.write_text("[" * 100_000)
        case _:
            state.write_text(how)


@pytest.mark.parametrize(
    "how",
    [
        *("missing", "folder", "pipe", "key", "certificate", "endpoint", "nested", ""),
        *(
            "{",
            "\0\ud7ff",
            "[]",
            f'{{"tls": "{SECRET}"}}',
            f'{{"format_version": 2, "{SECRET}": 1}}',
        ),
    ],
)
def test_unusable_state_is_one_line_in_the_log(
    state: Path, tls: TLS, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    break_state(state, tls, how)
    assert load(PRIVATE) is None
    [record] = caplog.records
    assert (record.name, record.levelno) == ("planapply", logging.WARNING)
    message = record.getMessage()
    assert message.startswith("no TLS key for a Dask client: ")
    assert "\n" not in message
    assert SECRET not in message
    assert not record.exc_info


@pytest.mark.parametrize("where", ["s3://", "ftp://host/x", "\0", "x\ny", "~nobody-x/zoo.json"])
def test_invalid_location_gets_nothing(
    state: Path, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "PLANAPPLY_STATE": where})
    assert load(PRIVATE) is None
    [message] = caplog.messages
    assert "\n" not in message


@pytest.mark.slow
def test_clients_of_a_running_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "planapply.toml"
    spec.write_text(
        f'[cluster]\nname = "loader-{os.getpid()}"\nsecurity = "tls"\n[provider]\nfolder = "{tmp_path / "vms"}"\n'
        "[workers.cpu]\ncount = 1\noptions = { nthreads = 1 }\n"
    )
    monkeypatch.chdir(tmp_path)
    try:
        planapply.apply(spec, progress=False)
        state = open_store(str(tmp_path / "planapply.state.json")).read()
        assert state is not None
        assert state.endpoint is not None
        address = state.endpoint.private
        assert address.startswith("tls://")
        with dask.config.set({"distributed.client.security-loader": "planapply.security_loader"}):
            with Client(address) as client:
                assert client.submit(sum, [1, 2]).result() == 3
            with dask.config.set({"scheduler-address": address}), Client() as client:
                assert client.submit(sum, [3, 4]).result() == 7
            monkeypatch.chdir("/")
            monkeypatch.setenv("PLANAPPLY_STATE", str(tmp_path / "planapply.state.json"))
            with Client(address) as client:
                assert client.submit(sum, [5, 6]).result() == 11
    finally:
        planapply.destroy(spec, progress=False)
