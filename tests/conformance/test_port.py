"""Behavior of every provider that the fleet relies on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance.subjects import Account, Subject, other_request

from planapply.provider import ErrorKind, LaunchResult, ProviderError

NAMES = ("cpu-0", "cpu-1", "cpu-7")


def test_each_name_gets_its_own_vm(account: Account) -> None:
    ids = set()
    for request in account.requests(*NAMES, tags={"team": "bio"}):
        result = account.provider.launch(request)
        assert result.shortfall is None
        assert [vm.name for vm in result.vms] == [*request.names]
        assert [vm.index for vm in result.vms] == [*range(len(request.names))]
        for vm in result.vms:
            ids.add(vm.id)
            assert vm.tags == request.tags
            assert vm.batch == request.token
            assert vm.status in ("pending", "running")
    assert len(ids) == 3


def test_launched_vms_are_found_by_lineage_and_by_batch(account: Account) -> None:
    first = account.launch(*NAMES).vms
    second = account.launch("cpu-3").vms
    ids = {vm.id for vm in first + second}
    account.wait_until(lambda: account.ids() == ids)
    batch = {"planapply:batch": second[0].batch}
    account.wait_until(lambda: [vm.id for vm in account.provider.find(batch)] == [second[0].id])
    account.wait_until(lambda: {vm.name for vm in account.find()} == {*NAMES, "cpu-3"})


def test_no_vm_is_ever_shown_without_its_tags(account: Account) -> None:
    requests = account.requests(*NAMES)
    with ThreadPoolExecutor(1) as pool:
        launching = [pool.submit(account.provider.launch, request) for request in requests]
        seen = []
        while not all(launch.done() for launch in launching):
            seen += account.find()
        assert all(launch.result().shortfall is None for launch in launching)
    seen += account.find()
    tags = {request.token: request.tags for request in requests}
    assert all(vm.tags == tags[vm.batch] and vm.name in NAMES for vm in seen)


def test_a_cluster_sees_only_its_own_vms(new_account: Callable[[], Account]) -> None:
    mine, other = new_account(), new_account()
    my_vms, other_vms = mine.launch("cpu-0").vms, other.launch("cpu-0").vms
    other.wait_until(lambda: other.ids() == {other_vms[0].id})
    mine.wait_until(lambda: mine.ids() == {my_vms[0].id})


def test_a_new_provider_object_finds_and_terminates_earlier_vms(account: Account) -> None:
    launched = account.launch(*NAMES).vms
    account.provider = account.subject.connect()
    account.wait_until(lambda: {vm.name for vm in account.find()} == {*NAMES})
    account.wait_until(lambda: not account.provider.terminate([vm.id for vm in launched]))
    account.wait_until(lambda: account.find() == [])


def test_repeating_a_token_returns_the_same_vms(account: Account) -> None:
    _needs_tokens(account)
    request = account.requests(*NAMES)[0]
    first = account.provider.launch(request)
    again = account.subject.connect().launch(request)
    assert [(vm.id, vm.name) for vm in again.vms] == [(vm.id, vm.name) for vm in first.vms]
    assert again.shortfall is None


def test_concurrent_requests_can_share_a_token(account: Account) -> None:
    _needs_tokens(account)
    request = account.requests(*NAMES)[0]

    def ask(_: int) -> LaunchResult:
        return account.subject.connect().launch(request)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ask, range(4)))
    ids = {vm.id for result in results for vm in result.vms}
    assert len(ids) == len(request.names)
    account.wait_until(lambda: account.ids() == ids)


def test_a_token_is_refused_for_a_different_request(account: Account) -> None:
    _needs_tokens(account)
    request = account.requests(*NAMES)[0]
    account.provider.launch(request)
    other = other_request(account.request("cpu-5"), of=request)
    with pytest.raises(ProviderError) as raised:
        account.provider.launch(other)
    assert raised.value.kind is ErrorKind.TOKEN_SPENT


def test_a_token_of_terminated_vms_returns_none_of_them(account: Account) -> None:
    _needs_tokens(account)
    request = account.requests(*NAMES)[0]
    ended = account.provider.launch(request).vms
    account.wait_until(lambda: not account.provider.terminate([vm.id for vm in ended]))
    account.wait_until(lambda: account.find() == [])
    account.subject.wait(account.provider.limits.consistency_delay)
    try:
        vms = account.provider.launch(request).vms
    except ProviderError as error:
        assert error.kind is ErrorKind.TOKEN_SPENT
    else:
        account.wait_until(lambda: account.ids() == {vm.id for vm in vms})


def test_termination_is_idempotent_and_ignores_unknown_ids(account: Account) -> None:
    first, second, _ = account.launch(*NAMES).vms
    unknown = "vm-of-nobody"
    account.provider.terminate([])
    account.wait_until(lambda: set(account.provider.terminate([unknown, first.id])) <= {unknown})
    account.wait_until(lambda: {vm.name for vm in account.find()} == {"cpu-1", "cpu-7"})
    # Terminate the first again: a missing VM is a success, and the other is terminated.
    account.wait_until(lambda: set(account.provider.terminate([first.id, second.id])) <= {first.id})
    account.wait_until(lambda: [vm.name for vm in account.find()] == ["cpu-7"])


def test_a_partial_launch_has_a_reason(account: Account) -> None:
    if account.subject.limit_capacity is None:
        pytest.skip("there is no way to make this cloud run out")
    account.subject.limit_capacity(2)
    result = account.launch(*NAMES)
    assert [vm.name for vm in result.vms] == ["cpu-0", "cpu-1"]
    assert result.shortfall is not None
    assert result.shortfall.kind in (ErrorKind.CAPACITY, ErrorKind.QUOTA)
    account.wait_until(lambda: account.ids() == {vm.id for vm in result.vms})
    with pytest.raises(ProviderError) as raised:
        account.launch("cpu-2")
    assert raised.value.kind in (ErrorKind.CAPACITY, ErrorKind.QUOTA)


def test_a_failed_launch_has_an_error_kind_and_leaves_nothing(account: Account) -> None:
    for kind, make in account.subject.failures.items():
        request = make(account)
        with pytest.raises(ProviderError) as raised:
            account.provider.launch(request)
        assert raised.value.kind is kind
        assert raised.value.summary.strip()
        assert "\n" not in raised.value.summary
    account.subject.wait(account.provider.limits.consistency_delay)
    assert account.find() == []


def test_the_tls_key_is_never_exposed(account: Account, subject: Subject) -> None:
    result = account.launch("cpu-0", scheduler="tls://127.0.0.1:9", security="tls")
    tls = account.state.tls
    assert tls is not None
    lines = [line for line in tls.key.get_secret_value().splitlines() if "-----" not in line]
    account.wait_until(lambda: account.ids() == {result.vms[0].id})
    seen = subject.visible_text(result.vms[0]) + repr(account.find())
    assert lines
    assert not [line for line in lines if line in seen]


def test_the_cloud_is_identified(account: Account, subject: Subject) -> None:
    identity = account.provider.identity()
    assert identity
    assert identity == subject.connect().identity()
    assert all(isinstance(text, str) and text for item in identity.items() for text in item)


def test_there_is_always_an_alternative_to_try(account: Account, subject: Subject) -> None:
    choices = account.provider.alternatives(subject.worker)
    assert len(choices) >= 1
    assert list(choices) == list(subject.connect().alternatives(subject.worker))


def _needs_tokens(account: Account) -> None:
    if not account.provider.limits.tokens:
        pytest.skip("this cloud has no tokens; the fleet looks before it asks again")
