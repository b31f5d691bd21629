"""Tags and names: conversion to a cloud's form and back."""

import gzip
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planapply_libcloud import labels
from planapply_libcloud.labels import NodeName

from planapply.model.node import TAG_CLUSTER, TAG_GROUP, TAG_LINEAGE, TAG_NAMES
from planapply.provider import ProviderError

WORDS = st.from_regex(r"[a-z][a-z0-9-]{0,6}[a-z0-9]", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40)
TAGS = st.dictionaries(TEXT.filter(lambda k: k and k != "Name" and "planapply:" not in k), TEXT)
OWN = st.fixed_dictionaries({TAG_CLUSTER: TEXT, TAG_GROUP: TEXT, TAG_LINEAGE: TEXT})
TOKENS = st.from_regex(r"[0-9a-f]{20}", fullmatch=True)


@given(TAGS, OWN, st.sampled_from(["planapply:", "pa:"]))
def test_flat_tags_round_trip_in_any_case(
    tags: dict[str, str], own: dict[str, str], prefix: str
) -> None:
    tag_format = labels.FlatTags(10_000, prefix)
    tags = {"Name": f"{own[TAG_CLUSTER]} {own[TAG_GROUP]}".strip(), **own, **tags}
    written = tag_format.encode(tags)
    assert tag_format.decode(written) == tags
    assert tag_format.decode([word.upper() for word in written]) == tags
    assert all(set(word) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_:") for word in written)


def test_foreign_flat_tags_are_ignored() -> None:
    tag_format = labels.FlatTags(255)
    assert tag_format.decode(["web", "production:", "a:b"]) == {}
    assert tag_format.decode(None) == {}
    assert labels.PAIRS.decode({"a": "b"}) == {}


@given(WORDS, WORDS, TOKENS, TEXT)
def test_name_round_trips_its_tags(cluster: str, group: str, token: str, lineage: str) -> None:
    node = f"{group}-7"
    tags = {TAG_CLUSTER: cluster, TAG_LINEAGE: lineage}
    name = NodeName.from_tags(tags, node, token)
    assert len(name.format_full(63)) <= 63
    read = NodeName.parse(name.format_full(63))
    assert read == name
    assert read is not None
    assert read.tags[TAG_NAMES] == node
    assert read.tags[TAG_GROUP] == group
    assert labels.lineage_digest(read.tags[TAG_LINEAGE]) == read.tags[TAG_LINEAGE]


@given(TEXT)
def test_foreign_names_are_ignored(name: str) -> None:
    assert NodeName.parse(name) is None


@pytest.mark.parametrize("cluster", ["Genomics", "g" * 40, "a_b"])
def test_name_that_does_not_round_trip_is_refused(cluster: str) -> None:
    name = NodeName(cluster, "cpu-0", "0" * 20, "0" * 8)
    with pytest.raises(ProviderError, match="lowercase letters"):
        name.format_full(63)


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1),
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1),
    TOKENS,
)
def test_short_names_are_valid_on_every_cloud(cluster: str, node: str, token: str) -> None:
    name = NodeName(cluster, node, token, "").format_short(63)
    assert len(name) <= 63
    assert name.endswith(token)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0].isalpha()
    assert "--" not in name


@given(st.binary(max_size=3000), st.integers(200, 4000))
def test_text_length_is_within_the_limit(data: bytes, limit: int) -> None:
    if len(data) <= labels.max_compressed_size(limit):
        assert len(labels.encode_script(data)) <= limit


def test_packed_text_unpacks_itself_and_keeps_stdin() -> None:
    script = b'#!/bin/bash\nset -euo pipefail\nread line\necho "it\'s $line"\nexit 7\n'
    text = labels.encode_script(gzip.compress(script, mtime=0))
    assert text.isascii()
    done = subprocess.run(["bash", "-c", text], input=b"here\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"it's here\n")
