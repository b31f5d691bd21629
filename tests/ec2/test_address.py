"""The address behind "me": one host, or an error."""

import io
import urllib.request
from http.client import BadStatusLine, InvalidURL
from typing import Any

import pytest
from inline_snapshot import snapshot
from planapply_ec2.address import detect_own_network

from planapply.provider import ErrorKind, ProviderError


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: str | Exception) -> None:
    """Let the service answer with this text, or the call fail."""

    def urlopen(url: str, timeout: float) -> Any:
        assert url.startswith("https://")
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer.encode())

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def refusal() -> ProviderError:
    with pytest.raises(ProviderError, match="cannot detect this machine's public") as raised:
        detect_own_network()
    assert raised.value.kind is ErrorKind.REJECTED
    return raised.value


@pytest.mark.parametrize(
    ("answer", "network"),
    [("198.51.100.7\n", "198.51.100.7/32"), (" 2001:db8::1 ", "2001:db8::1/128")],
)
def test_address_of_one_host(answer: str, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, answer)
    assert detect_own_network() == network


@pytest.mark.parametrize(
    "answer",
    [
        *("0.0.0.0/0", "::/0", "0.0.0.0", "::", "10.0.0.0/8", "198.51.100.7/32", "198.51.100.0/31"),
        *("224.0.0.1", "fe80::1%eth0", "::ffff:198.51.100.7", "198.51.100.7 198.51.100.8", ""),
        *("<html>", "3325256711", "198.51.100.07", "127.0.0.1", "169.254.169.254", "240.0.0.1"),
        *(BadStatusLine("x"), InvalidURL("x"), ValueError("x"), TimeoutError("x")),
    ],
)
def test_anything_else_is_an_error(
    answer: str | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, answer)
    refusal()


def test_web_page_is_quoted_on_one_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(
        monkeypatch, "<html>\n\x1b[2J`Welcome` \u2028 to the hotel's network" + "x" * 10_000
    )
    assert str(refusal()) == snapshot("""\
cannot detect this machine's public address: https://checkip.amazonaws.com: "<html>\\n\\x1b[2J`Welcome` \\ufffd\\ufffd\\ufffd to the hotel's netwo"… is not an address
Check that this machine is online. Or, instead of "me", write the network that may reach the scheduler: allow_from = ["203.0.113.0/24"] under [provider].\
""")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "", "data:,198.51.100.7", "h"])
def test_only_http_is_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANAPPLY_CHECKIP_URL", url)
    assert "PLANAPPLY_CHECKIP_URL is not an HTTP URL" in str(refusal())
