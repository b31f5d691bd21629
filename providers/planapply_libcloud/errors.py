"""What a driver's exception means: from the last exchange on the wire, the cloud's words, its kind.

Many drivers raise a bare Exception with a message, and drop the status of the answer.
"""

import re
from collections.abc import Iterable, Mapping

from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud.exchanges import Exchange, ExchangeRecorder

MAX_TEXT = 300


class NotFound(ProviderError):
    """The cloud does not know what was asked for."""


_QUOTA = re.compile(
    r"quota|limit ?exceeded|exceed\w* (\w+ ){0,4}limit|limit (\w+ ){0,4}(reached|exceeded)"
    r"|maximum number|(reached|over) (\w+ ){0,3}limit",
    re.IGNORECASE,
)
_CAPACITY = re.compile(
    r"capacity|no valid host|sold ?out|out of stock|stockout|pool_exhausted"
    r"|(not |un)available in (this|the|that|region|zone|location)|insufficient",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"NotFound|not be found|InvalidInstanceID")
_RATE = re.compile(r"rate ?limit|too many requests|throttl", re.IGNORECASE)
_ADVICE: Mapping[ErrorKind, str] = {
    ErrorKind.QUOTA: "Ask the cloud for more, or take another size or zone.",
    ErrorKind.CAPACITY: "Try later, or name more sizes (`size` takes a list; nodes of a size on it "
    "stay), or more `zones`, which replaces the group's nodes that run.",
    ErrorKind.UNAUTHORIZED: "Check `key` and `secret` under [provider] and what they may do; a "
    "token that has expired has to be replaced.",
}


def translate(
    error: Exception,
    recorder: ExchangeRecorder,
    *,
    writes: bool,
    has_answered: bool,
    cloud: str,
    error_kinds: Mapping[str, ErrorKind],
    secrets: Iterable[str] = (),
) -> ProviderError:
    """A failure of a driver's as one of the port's.

    `writes`: whether the call was to change something; `has_answered`: whether this cloud has answered
    before; `error_kinds`: what it says where nothing came of a request that it had accepted.
    """
    last = recorder.last
    text = _extract_text(error, last, secrets)
    full_text = f"{text} {getattr(error, 'code', '')} {last.text if last else ''}"
    for phrase, kind in error_kinds.items():
        if phrase in full_text:
            return _make_error(kind, text, cloud)
    if recorder.has_changed and writes:
        return ProviderError(ErrorKind.UNKNOWN, f"{cloud} accepted the request, and then: {text}")
    if last is not None and last.status is not None:
        return _translate_answer(error, last, text, recorder.is_write(last) and writes, cloud)
    return _translate_no_answer(
        error, recorder, text, writes=writes, has_answered=has_answered, cloud=cloud
    )


def _translate_answer(
    error: Exception, last: Exchange, text: str, writes: bool, cloud: str
) -> ProviderError:
    status = last.status or 0
    if status < 400:
        kind = ErrorKind.UNKNOWN if writes else ErrorKind.REJECTED
        if last.is_html:  # such as the page of a network's login
            return ProviderError(kind, f"{cloud} answered with a web page", _ADVICE_ADDRESS)
        if isinstance(error, TypeError | ValueError | AttributeError):
            return ProviderError(kind, f"{cloud}: {text}", _ADVICE_ARGUMENTS)
        return ProviderError(kind, f"{cloud} answered what its driver does not know: {text}")
    if status >= 500:
        kind = ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE
        return ProviderError(kind, f"{cloud} failed ({status}): {text}", _ADVICE_SERVER_ERROR)
    if status == 429 or (status in (403, 413, 503) and _RATE.search(text)):
        return ProviderError(ErrorKind.THROTTLED, f"{cloud} wants fewer requests: {text}")
    if _QUOTA.search(text):
        return _make_error(ErrorKind.QUOTA, text, cloud)
    if status in (401, 403):
        return _make_error(ErrorKind.UNAUTHORIZED, text, cloud)
    if _CAPACITY.search(text):
        return _make_error(ErrorKind.CAPACITY, text, cloud)
    if not last.is_html and (status in (404, 410) or _NOT_FOUND.search(text)):
        return NotFound(ErrorKind.REJECTED, f"{cloud}: {text}")
    if last.is_html:
        return ProviderError(
            ErrorKind.REJECTED, f"{cloud} answered with a web page ({status})", _ADVICE_ADDRESS
        )
    return _make_error(ErrorKind.REJECTED, text, cloud)


_ADVICE_ADDRESS = "Is the address right (`options` under [provider]), and does this network let you through to it?"
_ADVICE_SERVER_ERROR = (
    "The fault is the cloud's, or that of a proxy on the way to it: repeat this once it is mended."
)
_ADVICE_ARGUMENTS = (
    "Check `options` and `create` in the spec against Libcloud's page of this driver."
)


def _translate_no_answer(
    error: Exception,
    recorder: ExchangeRecorder,
    text: str,
    *,
    writes: bool,
    has_answered: bool,
    cloud: str,
) -> ProviderError:
    name = type(error).__name__
    if name in ("InvalidCredsError", "InvalidCredsException", "GoogleAuthError"):
        return _make_error(ErrorKind.UNAUTHORIZED, text, cloud)
    if "SSL" in name or "SSLError" in text:
        return ProviderError(
            ErrorKind.REJECTED,
            f"the certificate of {cloud} can't be verified: {text}",
            "If it is one of your own, set SSL_CERT_FILE or LIBCLOUD's CA path to it.",
        )
    if isinstance(error, OSError):  # so are those of requests
        sent = recorder.last is not None and not _is_unsent(error)
        if sent and writes:
            return ProviderError(ErrorKind.UNKNOWN, f"the answer of {cloud} was lost: {text}")
        unreached = f"{cloud} can't be reached{_find_reason(error, text)}"
        if sent or has_answered:
            return ProviderError(ErrorKind.UNAVAILABLE, unreached)
        return ProviderError(
            ErrorKind.REJECTED,
            unreached,
            "Is this machine online, and the address right (`options` under [provider])?",
        )
    if writes and not recorder.is_recording and not isinstance(error, TypeError | ValueError):
        # A driver that speaks no HTTP: nothing is known.
        return ProviderError(ErrorKind.UNKNOWN, f"{cloud}: {text}")
    codes = (getattr(error, name, None) for name in ("http_code", "code"))
    status = next((code for code in codes if isinstance(code, int)), 0)
    if status in (401, 403):
        return _make_error(ErrorKind.UNAUTHORIZED, text, cloud)
    if status == 429 or status >= 500:
        return ProviderError(
            ErrorKind.UNAVAILABLE, f"{cloud} failed ({status}): {text}", _ADVICE_SERVER_ERROR
        )
    return ProviderError(ErrorKind.REJECTED, f"{cloud}: {text}", _ADVICE_ARGUMENTS)


def _is_unsent(error: OSError) -> bool:
    phrases = ("NewConnectionError", "ConnectTimeout", "NameResolution", "Connection refused")
    return any(phrase in f"{type(error).__name__} {error}" for phrase in phrases)


def _find_reason(error: OSError, text: str) -> str:
    """At what address, and for what reason, as far as they stand in urllib3's long sentence."""
    address = re.search(r"host='([^']+)', port=(\d+)", str(error))
    reason = re.findall(r"\[Errno -?\d+\] ([\w ]+)|\((connect timeout=[\d.]+)", str(error))
    if not address or not reason:
        return f": {text}"
    return f" at {address[1]}:{address[2]}: {''.join(reason[-1])}"


def _make_error(kind: ErrorKind, text: str, cloud: str) -> ProviderError:
    return ProviderError(kind, f"{cloud}: {text}", _ADVICE.get(kind, ""))


def _extract_text(error: Exception, last: Exchange | None, secrets: Iterable[str]) -> str:
    """The cloud's words in one line, without any secret."""
    value = getattr(error, "value", None)  # without Libcloud's `<LibcloudError in …>` around it
    if isinstance(value, Mapping):
        value = value.get("message")
    text = str(value or error) or (last.text if last else "") or type(error).__name__
    if last and last.is_html:  # a driver says that it is no JSON
        text = last.text or "<html>"
    if "<html" in text.lower() or "<!doctype" in text.lower():
        found = re.search(r"<title>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
        text = found[1] if found else "a web page"
    for secret in secrets:
        text = text.replace(secret, "…")
    text = re.sub(r"^\w+\.__init__\(\) ", "its driver ", text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
