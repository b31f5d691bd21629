"""Capabilities beyond the port; each is tested if the provider has it."""

from collections.abc import Callable
from typing import Any

import pytest
from conformance.subjects import Account, Subject

from planapply.model.end_reason import EndReason
from planapply.model.node import Requirements
from planapply.provider import (
    ErrorKind,
    ProviderError,
    SupportsChoose,
    SupportsConsole,
    SupportsEndReasons,
    SupportsList,
    SupportsPins,
    SupportsPrices,
    SupportsResources,
    SupportsRetag,
    SupportsSecrets,
)


def test_tags_change_in_place(account: Account, subject: Subject) -> None:
    provider = _capable(account, SupportsRetag)
    vms = account.launch("cpu-0", "cpu-1", tags={"team": "bio", "stage": "test"}).vms
    account.wait_until(lambda: account.ids() == {vm.id for vm in vms})
    account.retry_while_throttled(
        lambda: provider.retag([vms[0].id], {"team": "geo", "cost": "42"}, ["stage"])
    )
    kept = {key: value for key, value in vms[0].tags.items() if key != "stage"}
    changed = {**kept, "team": "geo", "cost": "42"}

    def tags() -> dict[str | None, dict[str, str]]:
        return {vm.name: vm.tags for vm in account.find(subject.connect())}

    account.wait_until(lambda: tags() == {"cpu-0": changed, "cpu-1": vms[1].tags})
    # Again, with a tag that is set already, and a key that never was.
    provider.retag([vms[0].id], {"team": "geo"}, ["stage", "never"])
    account.wait_until(lambda: tags().get("cpu-0") == changed)


def test_console_output_is_returned(account: Account) -> None:
    provider = _capable(account, SupportsConsole)
    vm = account.launch("cpu-0").vms[0]
    assert provider.console("vm-of-nobody", 10) == ""
    account.wait_until(lambda: provider.console(vm.id, 1) != "")
    assert len(provider.console(vm.id, 1).splitlines()) == 1
    assert provider.console(vm.id, 0) == ""


def test_reasons_are_known_only_for_vms_that_the_cloud_knows(account: Account) -> None:
    provider = _capable(account, SupportsEndReasons)
    vms = account.launch("cpu-0", "cpu-1").vms
    account.terminate_all()
    reasons = provider.end_reasons(["vm-of-nobody", *(vm.id for vm in vms)])
    assert reasons.keys() <= {vm.id for vm in vms}
    assert {*reasons.values()} <= {EndReason.TERMINATED, EndReason.UNKNOWN}
    assert provider.end_reasons([]) == {}


def test_every_cluster_is_listed(new_account: Callable[[], Account]) -> None:
    one, two = new_account(), new_account()
    provider = _capable(one, SupportsList)
    ids = {vm.id for account in (one, two) for vm in account.launch("cpu-0", "cpu-1").vms}
    one.wait_until(lambda: ids <= {vm.id for vm in provider.list_vms()})
    lineages = {vm.tags["planapply:lineage"] for vm in provider.list_vms() if vm.id in ids}
    one.wait_until(lambda: lineages == {one.state.lineage, two.state.lineage})


def test_supporting_resources_are_created_once_and_removed(
    account: Account, subject: Subject
) -> None:
    provider = _capable(account, SupportsResources)
    tags = {"planapply:cluster": account.state.cluster, **account.tags}
    wanted = provider.required_resources(account.state.cluster, subject.worker)
    assert all(resource.id is None for resource in wanted.values())
    made = {name: provider.prepare(name, r, tags) for name, r in wanted.items()}
    assert all(resource.id for resource in made.values())
    other = _capable(Account(subject, account.state.lineage), SupportsResources)
    assert {name: other.prepare(name, r, tags) for name, r in wanted.items()} == made
    account.wait_until(lambda: provider.find_resources(tags).keys() == made.keys())
    assert provider.find_resources({"planapply:lineage": "of-nobody"}) == {}
    account.state.resources = dict(made)
    account.launch("cpu-0")
    account.wait_until(lambda: [vm.status for vm in account.find()] == ["running"])
    for resource in made.values():
        with pytest.raises(ProviderError) as raised:
            provider.cleanup(resource)
        assert raised.value.kind is ErrorKind.UNAVAILABLE
    account.terminate_all()
    for resource in made.values():
        provider.cleanup(resource)
        provider.cleanup(resource)
    account.wait_until(lambda: provider.find_resources(tags) == {})


def test_the_tls_key_of_a_lost_state_is_recovered(account: Account) -> None:
    provider = _capable(account, SupportsSecrets)
    vm = account.launch("cpu-0", scheduler="tls://127.0.0.1:9", security="tls").vms[0]
    tls = account.state.tls
    assert tls is not None
    account.wait_until(lambda: tls.certificate in provider.secrets(vm.id))
    assert tls.key.get_secret_value() in provider.secrets(vm.id)
    assert provider.secrets("vm-of-nobody") == ""


def test_a_price_is_unknown_or_positive(account: Account, subject: Subject) -> None:
    provider = _capable(account, SupportsPrices)
    for choice in account.provider.alternatives(subject.worker):
        price = provider.price(choice.size, choice.zone, choice.spot)
        assert price.usd_per_hour is None or price.usd_per_hour > 0
        assert price.usd_per_hour is None or price.source


def test_chosen_sizes_meet_the_requirements(account: Account, subject: Subject) -> None:
    provider = _capable(account, SupportsChoose)
    sizes = provider.choose(Requirements(cpus=1))
    assert sizes
    assert len(set(sizes)) == len(sizes)


def test_pins_do_not_change(account: Account, subject: Subject) -> None:
    provider = _capable(account, SupportsPins)
    assert provider.pins(subject.worker) == provider.pins(subject.worker)


def _capable(account: Account, capability: Any) -> Any:
    if not isinstance(account.provider, capability):
        pytest.skip(f"not a capability of this provider: {capability.__name__}")
    return account.provider
