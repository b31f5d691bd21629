"""Secrets in what planapply shows: which values may be secret, and their text in other encodings."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from planapply.model.node_secrets import source_variable

HIDDEN = "(hidden)"
MASK = "…"

_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|pass(?![a-z])|(?<![a-z])pwd|secret|token(?!iz)|credential"
    r"|(?:api|access|consumer|private|account|encryption|signing|auth|ssh|master|secret)[_-]?key"
    r"|(?<![a-z])(?:auth|authorization|oauth|bearer|pat|jwt|sas|pin|otp|salt|cookies?|creds?)(?![a-z])"
    r"|(?:^|[_-])keys?(?:[_-](?:b64|base64|pem|data))?$"
)
_PUBLIC_NAME = re.compile(
    r"_(?:file|path|dir|url|uri|scope|id|ids|name|type|version|sock|ttl)$|askpass$"
)
_SECRET_URL = re.compile(r"webhook")
"""Names of URLs that are secrets themselves: anyone who knows one may use it."""
_PUBLIC_VARIABLES = frozenset({"GOOGLE_APPLICATION_CREDENTIALS", "PWD", "OLDPWD"})
"""Variables with a path: of a file, and of the current and the last folder."""
_HIDDEN_KEYS = frozenset({"setup", "on_node_lost", "on_applied", "on_failed", "before_destroy"})
"""Settings that are commands, which may log in somewhere."""
_USER_PART = re.compile(r"(?<=://)[^\s/?#\"'<>]{1,4096}@")
_QUERY_SECRET = re.compile(
    r"([?&;][\w.-]{0,40}(?:token|secret|sig|signature|key|passw\w{0,10}|pwd|auth)=)[^&\s\"'#]+",
    re.I,
)
_SECRET_WORD = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|accountkey|signature|sig)"
)
_PAIR_SECRET = re.compile(
    rf"(?<![a-z])({_SECRET_WORD}[\"']?[ ]?[=:][ ]?[\"']?|--[\w-]{{0,40}}{_SECRET_WORD}[ =])[^\s\"'&;,}}]+",
    re.I,
)
_HEADER_SECRET = re.compile(
    r"(\bauthorization[\"']?[ ]?[=:][ ]?[\"']?(?:\w{1,20}[ ])?|\bbearer[ ])[^\s\"',;}]{4,}", re.I
)
_USER_SECRET = re.compile(
    r"((?:^|\s)(?:-u|--user|--proxy-user)[ =][\"']?[^\s:\"']{1,200}:)[^\s\"']+"
)
_NETRC_SECRET = re.compile(r"(\blogin\s{1,9}\S{1,200}\s{1,9}password\s{1,9})\S+")
_SECRET_OPTION = re.compile(rf"--[\w-]{{0,40}}{_SECRET_WORD}", re.I)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*", re.S)
_MIN_LENGTH = 4
"""Shorter values are too likely to occur in a text by chance."""


def is_secret_name(name: str) -> bool:
    """Return whether a setting or variable of this name may be a secret."""
    lower = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if _SECRET_URL.search(lower):
        return True
    return bool(_SECRET_NAME.search(lower)) and not _PUBLIC_NAME.search(lower)


def is_secret_path(path: Iterable[object]) -> bool:
    """Return whether the value at a path in the spec must not be shown."""
    names = [part for part in path if isinstance(part, str)]
    if "tags" in names:  # everybody who may see the VMs sees their tags
        return False
    return any(name in _HIDDEN_KEYS or is_secret_name(name) for name in names)


def mask_urls(text: str) -> str:
    """Return the text without the user parts of URLs and without secrets in their queries."""
    if "://" not in text:
        return text
    return _QUERY_SECRET.sub(rf"\1{MASK}", _USER_PART.sub(_mask_user, text))


def _mask_user(match: re.Match[str]) -> str:
    # `ssh://git@host` names a user only, and the key is elsewhere.
    before = match.string[max(0, match.start() - 6) : match.start()]
    return match[0] if before.endswith("ssh://") and ":" not in match[0] else f"{MASK}@"


def redact(value: Any, *path: object) -> Any:
    """Return a setting's value at `path` without what may be secret.

    References such as `env:NAME` stay.
    """
    is_reference = isinstance(value, str) and value.startswith("env:")
    if value is None or isinstance(value, bool) or is_reference or "tags" in path:
        return value
    if is_secret_path(path[-1:]) and value not in ((), [], {}):
        return HIDDEN
    if isinstance(value, Mapping):
        return {
            key: item if key == "tags" else redact(item, *path, key) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        before = (None, *value)
        return [
            HIDDEN
            if isinstance(word, str) and _SECRET_OPTION.fullmatch(word)
            else redact(item, *path)
            for word, item in zip(before, value, strict=False)
        ]
    return _mask_text(value) if isinstance(value, str) else value


def _mask_text(text: str) -> str:
    """Return a setting's text without what looks like a secret: in URLs, after `password=`, in keys."""
    text = _PRIVATE_KEY.sub(HIDDEN, mask_urls(text))
    for pattern in (_HEADER_SECRET, _USER_SECRET, _NETRC_SECRET, _PAIR_SECRET):
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def secret_values(value: Any, *path: object) -> set[str]:
    """Return the texts in a document that `redact` hides, one for each line."""
    if isinstance(value, Mapping):
        return {s for key, item in value.items() for s in secret_values(item, *path, key)}
    if isinstance(value, list | tuple):
        return {s for item in value for s in secret_values(item, *path)}
    if value is None or isinstance(value, bool) or not is_secret_path(path):
        return set()
    if source_variable(str(value)) is not None:
        return set()
    return {line.strip() for line in str(value).splitlines() if len(line.strip()) >= _MIN_LENGTH}


def mask_values(text: str, secrets: Iterable[str]) -> str:
    """Return the text without these secrets, in whatever form an SDK prints them."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _MIN_LENGTH:
            for form in _forms(secret):
                text = text.replace(form, MASK)
    return text


def _forms(secret: str) -> list[str]:
    """Return the secret itself, and as Python, JSON, URLs, and base64 write it, the longest first."""
    stripped = secret.strip()
    forms = {secret, stripped, *(line for line in stripped.splitlines() if len(line) > 15)}
    for text in (secret, stripped):
        data = text.encode(errors="surrogateescape")  # a variable may have any bytes
        forms |= {
            repr(text)[1:-1],
            repr(data)[2:-1],
            json.dumps(text)[1:-1],
            quote(data),
            quote(data, safe=""),
            quote_plus(data),
            quote(data, safe="").replace("%", "%25"),
        }
        # Of "user:secret" in base64, the middle depends on the position of the secret in it.
        for offset in range(3):
            encoded = base64.b64encode(b"\0" * offset + data).decode().rstrip("=")
            first, last = (0, 2, 3)[offset], len(encoded) - (1 if len(encoded) % 4 else 0)
            if last - first >= 8:
                forms |= {encoded[first:last], _urlsafe(encoded[first:last])}
    return sorted((form for form in forms if len(form) >= _MIN_LENGTH), key=len, reverse=True)


def _urlsafe(text: str) -> str:
    return text.replace("+", "-").replace("/", "_")


def looks_secret(name: str, value: str) -> bool:
    """Return whether the plain value of a variable may be a credential, by its name or by itself."""
    if len(value) < _MIN_LENGTH or value.lower() in ("true", "false", "none") or value.isdecimal():
        return False
    return is_secret_name(name) or _mask_text(value) != value


_protected: set[str] = set()
"""Environment variables whose values were sent to nodes, and so are secrets whatever their names are."""


def protect_variables(names: Iterable[str]) -> None:
    """Make `environment_secrets` include the values of these variables from now on."""
    _protected.update(names)


def environment_secrets(environment: Mapping[str, str]) -> set[str]:
    """Return the values of environment variables with a secret's name, and of those sent to nodes."""
    return {
        value
        for name, value in environment.items()
        if name in _protected
        or (len(value) >= 8 and is_secret_name(name) and name not in _PUBLIC_VARIABLES)
    }
