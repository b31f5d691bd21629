"""Translation of a driver's exception: from the last exchange, the cloud's message, and its type.

Many drivers raise a bare Exception with a message, and drop the status of the response. So this is
the one place that searches texts: what it finds is the error's kind and code.
"""

import re
from collections.abc import Iterable, Mapping

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import excerpt_web_page, mask_values, rejection
from planapply_libcloud.exchanges import Exchange, ExchangeRecorder

MAX_TEXT = 300


class NotFound(ProviderError):
    """Response of a cloud that the requested object does not exist."""


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
    ErrorKind.QUOTA: "Request a larger quota from the cloud, or choose another size or zone.",
    ErrorKind.CAPACITY: "Try again later, or add sizes to `size` (nodes whose size stays in the list "
    "are kept), or add `zones`, which replaces the group's running nodes.",
    ErrorKind.UNAUTHORIZED: "Check `key` and `secret` under [provider] and their permissions; "
    "replace a token that has expired.",
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
    """Return the ProviderError for a driver's exception.

    `writes`: whether the call may change something; `has_answered`: whether this cloud has responded
    before; `error_kinds`: the cloud's codes or phrases for requests that had no effect. The one that
    is found becomes the error's code.
    """
    last = recorder.last
    text = _extract_text(error, last, secrets)
    full_text = f"{text} {getattr(error, 'code', '')} {last.text if last else ''}"
    for phrase, kind in error_kinds.items():
        if phrase in full_text:
            return _make_error(kind, text, cloud, code=phrase)
    if recorder.has_changed and writes:
        return ProviderError(
            ErrorKind.UNKNOWN, f"{cloud} accepted the request, but then failed: {text}"
        )
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
        if last.is_html:  # such as a network's login page
            return ProviderError(kind, f"{cloud} responded with a web page", _ADVICE_ADDRESS)
        if isinstance(error, TypeError | ValueError | AttributeError):
            return ProviderError(kind, f"{cloud}: {text}", _ADVICE_ARGUMENTS)
        return ProviderError(kind, f"the {cloud} driver cannot read the response: {text}")
    if status >= 500:
        kind = ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE
        return ProviderError(kind, f"{cloud} failed ({status}): {text}", _ADVICE_SERVER_ERROR)
    if status == 429 or (status in (403, 413, 503) and _RATE.search(text)):
        return ProviderError(ErrorKind.THROTTLED, f"{cloud} limits the request rate: {text}")
    if _QUOTA.search(text):
        return _make_error(ErrorKind.QUOTA, text, cloud)
    if status in (401, 403):
        return _make_error(ErrorKind.UNAUTHORIZED, text, cloud)
    if _CAPACITY.search(text):
        return _make_error(ErrorKind.CAPACITY, text, cloud)
    if not last.is_html and (status in (404, 410) or _NOT_FOUND.search(text)):
        return NotFound(ErrorKind.REJECTED, f"{cloud}: {text}")
    if last.is_html:
        return rejection(f"{cloud} responded with a web page ({status})", _ADVICE_ADDRESS)
    return _make_error(ErrorKind.REJECTED, text, cloud)


_ADVICE_ADDRESS = (
    "Check the address (`options` under [provider]), and that this network allows access to it."
)
_ADVICE_SERVER_ERROR = (
    "The cloud, or a proxy on the way to it, is failing. Retry once it works again."
)
_ADVICE_ARGUMENTS = (
    "Check `options` and `create` in the spec against Libcloud's documentation of this driver."
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
        return rejection(
            f"cannot verify the certificate of {cloud}: {text}",
            "If the certificate is your own, set SSL_CERT_FILE or Libcloud's CA path to it.",
        )
    if isinstance(error, OSError):  # the exceptions of requests are OSErrors, too
        sent = recorder.last is not None and not _is_unsent(error)
        if sent and writes:
            return ProviderError(ErrorKind.UNKNOWN, f"the response of {cloud} was lost: {text}")
        unreached = f"cannot reach {cloud}{_find_reason(error, text)}"
        if sent or has_answered:
            return ProviderError(ErrorKind.UNAVAILABLE, unreached)
        return rejection(
            unreached,
            "Check that this machine is online, and the address (`options` under [provider]).",
        )
    if writes and not recorder.is_recording and not isinstance(error, TypeError | ValueError):
        # The driver does not use HTTP, so the result is unknown.
        return ProviderError(ErrorKind.UNKNOWN, f"{cloud}: {text}")
    codes = (getattr(error, name, None) for name in ("http_code", "code"))
    status = next((code for code in codes if isinstance(code, int)), 0)
    if status in (401, 403):
        return _make_error(ErrorKind.UNAUTHORIZED, text, cloud)
    if status == 429 or status >= 500:
        return ProviderError(
            ErrorKind.UNAVAILABLE, f"{cloud} failed ({status}): {text}", _ADVICE_SERVER_ERROR
        )
    return rejection(f"{cloud}: {text}", _ADVICE_ARGUMENTS)


def _is_unsent(error: OSError) -> bool:
    phrases = ("NewConnectionError", "ConnectTimeout", "NameResolution", "Connection refused")
    return any(phrase in f"{type(error).__name__} {error}" for phrase in phrases)


def _find_reason(error: OSError, text: str) -> str:
    """Return the address and the reason, as far as urllib3's long sentence has them."""
    address = re.search(r"host='([^']{1,300})', port=(\d+)", str(error))
    reason = re.findall(r"\[Errno -?\d+\] ([\w ]+)|\((connect timeout=[\d.]+)", str(error))
    if not address or not reason:
        return f": {text}"
    return f" at {address[1]}:{address[2]}: {''.join(reason[-1])}"


def _make_error(kind: ErrorKind, text: str, cloud: str, *, code: str = "") -> ProviderError:
    return ProviderError(kind, f"{cloud}: {text}", _ADVICE.get(kind, ""), code=code)


def _extract_text(error: Exception, last: Exchange | None, secrets: Iterable[str]) -> str:
    """Return the cloud's message in one line, without secrets."""
    value = getattr(error, "value", None)  # without Libcloud's `<LibcloudError in …>` around it
    if isinstance(value, Mapping):
        value = value.get("message")
    text = str(value or error) or (last.text if last else "") or type(error).__name__
    if last and last.is_html:  # the driver's own message is that it is not JSON
        text = last.text or "<html>"
    if "<html" in text.lower() or "<!doctype" in text.lower():
        text = excerpt_web_page(text) or "a web page"
    text = mask_values(text, secrets)
    text = re.sub(r"^\w+\.__init__\(\) ", "its driver ", text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
