"""Networks that may reach the scheduler: which are accepted, and which are wide."""

from ipaddress import ip_network

import pytest
from inline_snapshot import snapshot

from planapply.ops.preflight import unsafe_access_error
from planapply.providerkit import (
    Resource,
    disallow_network,
    open_networks,
    parse_network,
    wide_networks,
)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (" 203.0.113.0/24 ", "203.0.113.0/24"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("100.64.0.0/10", "100.64.0.0/10"),
    ],
)
def test_network_in_canonical_form(text: str, network: str) -> None:
    assert parse_network(text) == network


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((text, "is a loopback network") for text in ("127.0.0.1", "127.0.0.0/8", "::1")),
        *((text, "is a multicast network") for text in ("224.0.0.0/4", "239.1.1.1", "ff02::1")),
        *((text, "is a link-local network") for text in ("169.254.1.0/24", "fe80::/10")),
        *((text, "is the unspecified address") for text in ("0.0.0.0", "::", "0.0.0.0/32")),
        *(
            (text, "is a reserved network")
            for text in ("240.0.0.0/8", "255.255.255.255", "0.1.0.0/16")
        ),
        *(
            (text, "is a reserved network")
            for text in ("::ffff:1.2.3.4", "64:ff9b::/96", "fec0::1")
        ),
        *((text, "is an address in the network") for text in ("10.0.0.5/8", "2001:db8::1/32")),
        *(
            (text, "is not a network")
            for text in ("fe80::1%eth0", "", "1", "me", "10.0.0.0/33", "h")
        ),
        *((text, "is not a network") for text in ("10.0.0.256", "010.0.0.1", "x" * 100_000)),
    ],
)
def test_odd_network_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        parse_network(text)
    assert len(str(raised.value)) < 300
    assert len(str(raised.value).split("\n")) == 2


def test_host_bits_are_explained() -> None:
    with pytest.raises(ValueError, match="is an address") as raised:
        parse_network("203.0.113.7/24")
    assert str(raised.value) == snapshot("""\
`203.0.113.7/24` is an address in the network 203.0.113.0/24
Write 203.0.113.0/24 for the network, or 203.0.113.7 for the address.\
""")


@pytest.mark.parametrize(
    ("networks", "wide"),
    [
        (["0.0.0.0/0"], ["0.0.0.0/0"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/1", "128.0.0.0/1"]),
        (["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"], []),
        (["8.0.0.0/9"], []),
        (["8.0.0.0/9", "9.0.0.0/9", "10.0.0.0/8"], ["8.0.0.0/9", "9.0.0.0/9"]),
        (["8.0.0.0/9", "8.0.0.0/9", "8.1.0.0/16"], []),  # of which the sum is the first
        (["2600::/25", "2600:80::/25"], ["2600::/25", "2600:80::/25"]),
        (["8.0.0.0/9", "2600::/25"], []),
        (["::/0"], ["::/0"]),
        (["::/1", "8000::/1"], ["::/1", "8000::/1"]),
        ([], []),
    ],
)
def test_wide_networks_are_counted_together(networks: list[str], wide: list[str]) -> None:
    assert wide_networks(networks) == wide


def test_internet_in_many_small_networks_is_wide() -> None:
    networks = [str(n) for n in ip_network("0.0.0.0/0").subnets(new_prefix=9)]
    assert len(wide_networks(networks)) == 510  # without 10.0.0.0/8
    assert unsafe_access_error(wide_networks(networks)).summary == snapshot(
        'cannot allow 0.0.0.0/9, 0.128.0.0/9, 1.0.0.0/9, 1.128.0.0/9, 2.0.0.0/9, and 505 more: with security = "none" anyone who reaches the scheduler can run code on every node'
    )


def test_network_that_is_no_longer_accepted_can_be_removed() -> None:
    resource = Resource(kind="group", id="g", detail={"allowed": ["127.0.0.0/8"]})
    assert open_networks(disallow_network(resource, "127.0.0.0/8").detail) == []
