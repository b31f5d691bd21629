"""Tags and names, there and back."""

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
def test_flat_tags_come_back_whole_even_in_other_capitals(
    tags: dict[str, str], own: dict[str, str], prefix: str
) -> None:
    form = labels.Flat(10_000, prefix)
    tags = {"Name": f"{own[TAG_CLUSTER]} {own[TAG_GROUP]}".strip(), **own, **tags}
    written = form.written(tags)
    assert form.read(written) == tags
    assert form.read([word.upper() for word in written]) == tags
    assert all(set(word) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_:") for word in written)


def test_words_of_others_are_no_tags_of_ours() -> None:
    form = labels.Flat(255)
    assert form.read(["web", "production:", "a:b"]) == {}
    assert form.read(None) == {}
    assert labels.PAIRS.read({"a": "b"}) == {}


@given(WORDS, WORDS, TOKENS, TEXT)
def test_a_whole_name_says_what_it_was_made_of(
    cluster: str, group: str, token: str, lineage: str
) -> None:
    node = f"{group}-7"
    tags = {TAG_CLUSTER: cluster, TAG_LINEAGE: lineage}
    name = NodeName.of(tags, node, token)
    assert len(name.whole(63)) <= 63
    read = NodeName.read(name.whole(63))
    assert read == name
    assert read is not None
    assert read.tags[TAG_NAMES] == node
    assert read.tags[TAG_GROUP] == group
    assert labels.lineage_digest(read.tags[TAG_LINEAGE]) == read.tags[TAG_LINEAGE]


@given(TEXT)
def test_no_other_name_is_read_as_one(name: str) -> None:
    assert NodeName.read(name) is None


@pytest.mark.parametrize("cluster", ["Genomics", "g" * 40, "a_b"])
def test_a_name_that_would_not_come_back_is_refused(cluster: str) -> None:
    name = NodeName(cluster, "cpu-0", "0" * 20, "0" * 8)
    with pytest.raises(ProviderError, match="small letters"):
        name.whole(63)


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1),
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1),
    TOKENS,
)
def test_a_short_name_is_one_that_every_cloud_takes(cluster: str, node: str, token: str) -> None:
    name = NodeName(cluster, node, token, "").short(63)
    assert len(name) <= 63
    assert name.endswith(token)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0].isalpha()
    assert "--" not in name


@given(st.binary(max_size=3000), st.integers(200, 4000))
def test_text_is_as_long_as_was_said(data: bytes, limit: int) -> None:
    if len(data) <= labels.room(limit):
        assert len(labels.as_text(data)) <= limit


def test_text_unpacks_itself_and_leaves_the_input_alone() -> None:
    script = b'#!/bin/bash\nset -euo pipefail\nread line\necho "it\'s $line"\nexit 7\n'
    text = labels.as_text(gzip.compress(script, mtime=0))
    assert text.isascii()
    done = subprocess.run(["bash", "-c", text], input=b"here\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"it's here\n")
