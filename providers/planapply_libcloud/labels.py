"""Conversion of planapply's tags to the forms that clouds allow, and back: pure."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from planapply.providerkit import (
    TAG_BATCH,
    TAG_CLUSTER,
    TAG_GROUP,
    TAG_LINEAGE,
    TAG_NAMES,
    TAG_PREFIX,
    rejection,
    split_name,
)

Tags = dict[str, str]


class TagFormat(Protocol):
    """Form of tags in one cloud."""

    def encode(self, tags: Mapping[str, str]) -> Any:
        """Return the tags as an argument of `create_node`."""

    def decode(self, value: Any) -> Tags:
        """Return the tags of a node; empty if it is not planapply's."""

    def find_error(self, tags: Mapping[str, str]) -> str:
        """Return what the cloud would refuse, a phrase after the cloud's name; empty if nothing."""


@dataclass(frozen=True)
class TagPairs:
    """Table of keys and values that the cloud keeps unchanged."""

    key_pattern: str = r".{1,128}"
    value_pattern: str = r".{0,255}"
    max_tags: int = 50

    def encode(self, tags: Mapping[str, str]) -> Tags:
        return dict(tags)

    def decode(self, value: Any) -> Tags:
        tags = {str(k): str(v) for k, v in value.items()} if isinstance(value, Mapping) else {}
        return tags if TAG_LINEAGE in tags else {}

    def find_error(self, tags: Mapping[str, str]) -> str:
        for key, value in tags.items():
            if not re.fullmatch(self.key_pattern, key):
                return f"does not allow a tag {key!r}: names match {self.key_pattern}"
            if not re.fullmatch(self.value_pattern, value, re.DOTALL):
                return f"does not allow a tag {key} = {value!r}: values match {self.value_pattern}"
        return f"allows {self.max_tags} tags, not {len(tags)}" if len(tags) > self.max_tags else ""


@dataclass(frozen=True)
class FlatTags:
    """List of words `key:value`, of which a cloud may change the case.

    Bytes other than lowercase letters, digits, and hyphens are written as `_` and their hex code.
    """

    max_length: int
    prefix: str = TAG_PREFIX
    """Replacement of planapply's own prefix, for clouds with short tags."""
    max_tags: int = 50

    def encode(self, tags: Mapping[str, str]) -> list[str]:
        # `decode` makes `Name` from the other tags.
        return [self._encode_tag(key, value) for key, value in tags.items() if key != "Name"]

    def _encode_tag(self, key: str, value: str) -> str:
        if key.startswith(TAG_PREFIX):
            return f"{self.prefix}{_escape(key.removeprefix(TAG_PREFIX))}:{_escape(value)}"
        return f"{_escape(key)}:{_escape(value)}"

    def decode(self, value: Any) -> Tags:
        tags: Tags = {}
        for word in value if isinstance(value, list | tuple) else ():
            key, colon, text = str(word).lower().rpartition(":")
            if colon and key.startswith(self.prefix):
                tags[TAG_PREFIX + _unescape(key.removeprefix(self.prefix))] = _unescape(text)
            elif colon:
                tags[_unescape(key)] = _unescape(text)
        if TAG_LINEAGE not in tags:
            return {}
        return tags | {"Name": _make_name_tag(tags)}

    def find_error(self, tags: Mapping[str, str]) -> str:
        for key, value in tags.items():
            if key != "Name" and len(word := self._encode_tag(key, value)) > self.max_length:
                return f"allows tags of {self.max_length} characters, but {word!r} has {len(word)}"
        return f"allows {self.max_tags} tags, not {len(tags)}" if len(tags) > self.max_tags else ""


PAIRS = TagPairs()


def _make_name_tag(tags: Mapping[str, str]) -> str:
    return f"{tags.get(TAG_CLUSTER, '')} {tags.get(TAG_GROUP, '')}".strip()


def _escape(text: str) -> str:
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789-"
    return "".join(chr(byte) if byte in plain else f"_{byte:02x}" for byte in text.encode())


def _unescape(text: str) -> str:
    data = re.sub(rb"_([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode())
    return data.decode(errors="replace")


_NAME = re.compile(
    r"(?P<rest>[a-z0-9-]+)-(?P<token>[a-z0-9]{16,})-(?P<lineage>[0-9a-f]{8})(?P<length>[0-9]{2})"
)


@dataclass(frozen=True)
class NodeName:
    """Name of a VM, with its cluster, node, and launch attempt."""

    cluster: str
    node: str
    token: str
    lineage: str
    """Digest of 8 hexadecimal digits."""

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], node: str, token: str) -> "NodeName":
        """Return the name of a VM with these tags."""
        return cls(tags[TAG_CLUSTER], node, token, lineage_digest(tags[TAG_LINEAGE]))

    def format_short(self, max_length: int) -> str:
        """Return a readable name, for clouds with tags; the token alone makes it unique."""
        token = re.sub(r"[^a-z0-9]", "", self.token.lower())
        if token != self.token:
            token = hashlib.sha256(self.token.encode()).hexdigest()[:20]
        node = _hostname(self.node)[: max_length // 3]
        room = max_length - len(token) - len(node) - 2
        name = f"{_hostname(self.cluster)[: max(1, room)]}-{node}-{token}"
        name = re.sub(r"-+", "-", name)
        return name if name[0].isalpha() else f"p{name[1:]}"

    def format_full(self, max_length: int) -> str:
        """Return a name that `parse` can read; raise a rejected ProviderError if it is impossible."""
        name = f"{self.cluster}-{self.node}-{self.token}-{self.lineage}{len(self.node):02}"
        match = _NAME.fullmatch(name)
        if match is None or len(name) > max_length:
            room = max_length - len(name) + len(self.cluster) + len(self.node)
            raise rejection(
                f"cannot use {name} as the name of a VM",
                "This driver does not support tags, so the VM's name has to identify it. In the "
                "names of the cluster and its groups, use only lowercase letters, digits, and "
                f"hyphens, at most {room} characters in total.",
            )
        return name

    @classmethod
    def parse(cls, name: str) -> "NodeName | None":
        """Return the parts of a name by `format_full`; None for any other name."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        cut = len(match["rest"]) - int(match["length"])
        if cut < 2 or match["rest"][cut - 1] != "-":
            return None
        rest = match["rest"]
        return cls(rest[: cut - 1], rest[cut:], match["token"], match["lineage"])

    @property
    def tags(self) -> Tags:
        """Tags that the name contains; the lineage is only its digest."""
        tags = {
            TAG_CLUSTER: self.cluster,
            TAG_LINEAGE: self.lineage,
            TAG_GROUP: split_name(self.node)[0],
            TAG_BATCH: self.token,
            TAG_NAMES: self.node,
        }
        return tags | {"Name": _make_name_tag(tags)}


def lineage_digest(lineage: str) -> str:
    """Return 8 hexadecimal digits for a lineage; a digest is returned unchanged."""
    if re.fullmatch(r"[0-9a-f]{8}", lineage):
        return lineage
    return hashlib.sha256(lineage.encode()).hexdigest()[:8]


def _hostname(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


_SCRIPT_START, _SCRIPT_END = "#!/bin/bash\nexec bash <(base64 -d <<'END' | gzip -d\n", "END\n)\n"
_WRAP = 76


def encode_script(user_data: bytes) -> str:
    """Return user data as text, for clouds that require it: a script that unpacks itself."""
    body = base64.encodebytes(user_data).decode("ascii")
    return f"{_SCRIPT_START}{body}{_SCRIPT_END}"


def max_compressed_size(limit: int) -> int:
    """Return the most bytes of compressed user data whose text has at most `limit` bytes."""
    lines = (limit - len(_SCRIPT_START) - len(_SCRIPT_END)) // (_WRAP + 1)
    return lines * (_WRAP // 4 * 3)
