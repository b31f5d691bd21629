"""planapply's tags in the forms that clouds take, and back again: pure."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from planapply.model.names import split_name
from planapply.model.node import (
    TAG_BATCH,
    TAG_CLUSTER,
    TAG_GROUP,
    TAG_LINEAGE,
    TAG_NAMES,
    TAG_PREFIX,
)
from planapply.provider import ErrorKind, ProviderError

Tags = dict[str, str]


class TagFormat(Protocol):
    """How one cloud writes tags."""

    def encode(self, tags: Mapping[str, str]) -> Any:
        """As an argument of `create_node`."""

    def decode(self, value: Any) -> Tags:
        """The tags again, from what a node shows; empty where they are none of planapply's."""

    def find_error(self, tags: Mapping[str, str]) -> str:
        """What this cloud would refuse, after "the cloud …"; empty where it would nothing."""


@dataclass(frozen=True)
class TagPairs:
    """A table; what the cloud takes is kept as it is, so that it can be read back."""

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
                return f"takes no tag named {key!r}: names match {self.key_pattern}"
            if not re.fullmatch(self.value_pattern, value, re.DOTALL):
                return f"takes no tag {key} = {value!r}: values match {self.value_pattern}"
        return (
            f"takes {self.max_tags} tags, and these are {len(tags)}"
            if len(tags) > self.max_tags
            else ""
        )


@dataclass(frozen=True)
class FlatTags:
    """A list of words, that a cloud may give back in other capitals: `key:value`, all but small
    letters, digits and hyphens as `_` and their number."""

    max_length: int
    prefix: str = TAG_PREFIX
    """In place of planapply's own, where there is little room."""
    max_tags: int = 50

    def encode(self, tags: Mapping[str, str]) -> list[str]:
        # `Name` follows from the others.
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
                return f"takes tags of {self.max_length} characters, and {word!r} has {len(word)}"
        return (
            f"takes {self.max_tags} tags, and these are {len(tags)}"
            if len(tags) > self.max_tags
            else ""
        )


PAIRS = TagPairs()


def user_tags(tags: Mapping[str, str]) -> Tags:
    """Those that are not planapply's own."""
    return {k: v for k, v in tags.items() if k != "Name" and not k.startswith(TAG_PREFIX)}


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
    """A VM's name, in which cluster, node and attempt stand."""

    cluster: str
    node: str
    token: str
    lineage: str
    """8 hexadecimal digits that stand for the whole."""

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], node: str, token: str) -> "NodeName":
        """Of a VM that has all tags."""
        return cls(tags[TAG_CLUSTER], node, token, lineage_digest(tags[TAG_LINEAGE]))

    def format_short(self, max_length: int) -> str:
        """For people, where tags say the rest; the token alone makes it unique."""
        token = re.sub(r"[^a-z0-9]", "", self.token.lower())
        if token != self.token:
            token = hashlib.sha256(self.token.encode()).hexdigest()[:20]
        node = _hostname(self.node)[: max_length // 3]
        room = max_length - len(token) - len(node) - 2
        name = f"{_hostname(self.cluster)[: max(1, room)]}-{node}-{token}"
        name = re.sub(r"-+", "-", name)
        return name if name[0].isalpha() else f"p{name[1:]}"

    def format_full(self, max_length: int) -> str:
        """From which `parse` knows the rest; raises ProviderError where it can't be made."""
        name = f"{self.cluster}-{self.node}-{self.token}-{self.lineage}{len(self.node):02}"
        match = _NAME.fullmatch(name)
        if match is None or len(name) > max_length:
            room = max_length - len(name) + len(self.cluster) + len(self.node)
            raise ProviderError(
                ErrorKind.REJECTED,
                f"the VM of {self.node} can't be named {name}",
                "This driver keeps no tags, so that a VM's name has to say what it is: write the "
                "names of the cluster and its groups in small letters, digits and hyphens, "
                f"together at most {room} characters.",
            )
        return name

    @classmethod
    def parse(cls, name: str) -> "NodeName | None":
        """From what `format_full` gave; None for any other name."""
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
        """What the name says of them; the lineage is its digest."""
        tags = {
            TAG_CLUSTER: self.cluster,
            TAG_LINEAGE: self.lineage,
            TAG_GROUP: split_name(self.node)[0],
            TAG_BATCH: self.token,
            TAG_NAMES: self.node,
        }
        return tags | {"Name": _make_name_tag(tags)}


def lineage_digest(lineage: str) -> str:
    """8 hexadecimal digits; those of such digits are themselves."""
    if re.fullmatch(r"[0-9a-f]{8}", lineage):
        return lineage
    return hashlib.sha256(lineage.encode()).hexdigest()[:8]


def _hostname(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


_SCRIPT_START, _SCRIPT_END = "#!/bin/bash\nexec bash <(base64 -d <<'END' | gzip -d\n", "END\n)\n"
_WRAP = 76


def encode_script(user_data: bytes) -> str:
    """The same script for a cloud that takes text: what is compressed unpacks itself."""
    body = base64.encodebytes(user_data).decode("ascii")
    return f"{_SCRIPT_START}{body}{_SCRIPT_END}"


def max_compressed_size(limit: int) -> int:
    """How many bytes may be compressed user data, so that its text has at most `limit`."""
    lines = (limit - len(_SCRIPT_START) - len(_SCRIPT_END)) // (_WRAP + 1)
    return lines * (_WRAP // 4 * 3)
