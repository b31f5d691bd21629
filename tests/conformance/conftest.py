"""Fixtures: a new account of each provider for each test; no VM outlives the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conformance.subjects import SLOW, SUBJECTS, Account, Subject

# `make openstack` and `make soak` run them on a real Nova, which takes two minutes; tests/libcloud/test_nova.py
# is in the gate.
SOAK = {"libcloud-openstack"}
PARAMS = [
    pytest.param(
        name,
        marks=[
            *([pytest.mark.slow] if name in SLOW else []),
            *([pytest.mark.soak] if name in SOAK else []),
        ],
    )
    for name in SUBJECTS
]


@pytest.fixture(params=PARAMS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with SUBJECTS[request.param](tmp_path) as subject:
        yield subject


@pytest.fixture
def new_account(subject: Subject) -> Iterator[Callable[[], Account]]:
    accounts: list[Account] = []

    def new() -> Account:
        accounts.append(Account(subject))
        return accounts[-1]

    yield new
    for account in accounts:
        account.terminate_all()


@pytest.fixture
def account(new_account: Callable[[], Account]) -> Account:
    return new_account()
