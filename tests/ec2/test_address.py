"""The address behind "me": one host, or an error."""

from pathlib import Path

import pytest
from planapply_ec2.address import detect_own_network

from planapply.provider import ErrorKind, ProviderError


@pytest.mark.parametrize(
    ("answer", "network"),
    [("198.51.100.7\n", "198.51.100.7/32"), (" 2001:db8::1 ", "2001:db8::1/128")],
)
def test_address_of_one_host(
    answer: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ip").write_text(answer)
    monkeypatch.setenv("PLANAPPLY_CHECKIP_URL", f"file://{tmp_path}/ip")
    assert detect_own_network() == network


@pytest.mark.parametrize(
    "answer",
    [
        *("0.0.0.0/0", "::/0", "0.0.0.0", "::", "10.0.0.0/8", "198.51.100.7/32", "198.51.100.0/31"),
        *("224.0.0.1", "fe80::1%eth0", "::ffff:198.51.100.7", "198.51.100.7 198.51.100.8", ""),
        *("<html>", "3325256711", "198.51.100.07"),
    ],
)
def test_anything_else_is_an_error(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ip").write_text(answer)
    monkeypatch.setenv("PLANAPPLY_CHECKIP_URL", f"file://{tmp_path}/ip")
    with pytest.raises(
        ProviderError, match="cannot detect this machine's public address"
    ) as raised:
        detect_own_network()
    assert raised.value.kind is ErrorKind.REJECTED
