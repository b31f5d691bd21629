"""A cluster of its own on this machine for each test; none of its processes survives it."""

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
    """Where the account's VMs have their folders."""
    return tmp_path / "local"


@pytest.fixture
def script_request(account: Account) -> Callable[..., LaunchRequest]:
    """A request whose nodes run Python code instead of Dask."""

    def make(*codes: str, **changes: object) -> LaunchRequest:
        names = [f"cpu-{place}" for place in range(len(codes))]
        request = account.request(*names, **changes)  # type: ignore[arg-type]
        boots = tuple(Boot(argv=("-c", code), env={}) for code in codes)
        return replace(request, boots=boots)

    return make


@pytest.fixture
def run(account: Account, script_request: Callable[..., LaunchRequest]) -> Callable[..., VM]:
    """Launch one node with some Python code."""

    def launch(code: str, **changes: object) -> VM:
        (vm,) = account.provider.launch(script_request(code, **changes)).vms
        return vm

    return launch
