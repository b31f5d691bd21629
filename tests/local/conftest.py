"""Fixtures: a separate cluster on this machine for each test; no process outlives the test."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conformance.subjects import Account
from conformance.subjects import local as local_subject

from planapply.model.node import VM
from planapply.provider import Boot, LaunchRequest


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with local_subject(tmp_path) as subject:
        account = Account(subject)
        yield account
        account.terminate_all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of the account's VMs."""
    return tmp_path / "local"


@pytest.fixture
def script_request(account: Account) -> Callable[..., LaunchRequest]:
    """Function that makes a request whose nodes run Python code instead of Dask."""

    def make(*codes: str, **changes: object) -> LaunchRequest:
        names = [f"cpu-{place}" for place in range(len(codes))]
        request = account.request(*names, **changes)  # type: ignore[arg-type]
        boots = tuple(Boot(argv=("-c", code), env={}) for code in codes)
        return replace(request, boots=boots)

    return make


@pytest.fixture
def run(account: Account, script_request: Callable[..., LaunchRequest]) -> Callable[..., VM]:
    """Function that launches one node with Python code."""

    def launch(code: str, **changes: object) -> VM:
        (vm,) = account.provider.launch(script_request(code, **changes)).vms
        return vm

    return launch
