"""Secrets in what planapply shows."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.node import Environment, NodeConfig
from planapply.model.secrets import (
    HIDDEN,
    environment_secrets,
    is_secret_name,
    mask_urls,
    mask_values,
    redact,
)
from planapply.model.state import State
from planapply.provider import ErrorKind, ProviderError


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PASSWORD",
            "db_passwd",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "apiKey",
            "WANDB_API_KEY",
        ),
        *("OS_PASSWORD", "ex_admin_pass", "STRIPE_KEY", "DB_PWD", "authToken", "BASIC_AUTH"),
        *("AZURE_STORAGE_ACCOUNT_KEY", "private-key", "credentials"),
    ],
)
def test_name_of_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("key_name", "TOKENIZERS_PARALLELISM", "AWS_WEB_IDENTITY_TOKEN_FILE", "SSH_AUTH_SOCK"),
        *(
            "author",
            "keyspace",
            "monkey",
            "nthreads",
            "passenger",
            "ex_token_scope",
            "UV_INDEX_URL",
            "SSH_ASKPASS",
            "keyboard",
            "PYTHONHASHSEED",
            "KEY_NAME",
        ),
    ],
)
def test_name_of_no_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "--extra-index-url https://me:s3cret@host/simple",
            "--extra-index-url https://…@host/simple",
        ),
        ("x @ git+https://s3cret@github.com/a/b@v1", "x @ git+https://…@github.com/a/b@v1"),
        ("postgresql://u:p@ss@db/x and http://a:b@c", "postgresql://…@db/x and http://…@c"),
        ("https://h/x?sig=s3cret&b=1", "https://h/x?sig=…&b=1"),
        ("https://h/x?X-Amz-Signature=s3cret", "https://h/x?X-Amz-Signature=…"),
        ("git+ssh://git@github.com/a/b", "git+ssh://git@github.com/a/b"),
        ("ssh://me:s3cret@h/x", "ssh://…@h/x"),
        ("tls://10.0.0.1:8786 root@vm", "tls://10.0.0.1:8786 root@vm"),
        (
            "https://host/path@v1 daskdev/dask:1@sha256:00",
            "https://host/path@v1 daskdev/dask:1@sha256:00",
        ),
    ],
)
def test_user_part_of_a_url(text: str, masked: str) -> None:
    assert mask_urls(text) == masked
    assert mask_urls(masked) == masked
    # Wherever an error comes from.
    assert str(Diagnostic(summary="x", detail=text)).endswith(masked)
    assert str(PlanapplyError(text)) == masked
    assert ProviderError(ErrorKind.REJECTED, text, text).detail == masked


@given(st.text(min_size=8, max_size=40).filter(lambda text: len(text.strip()) >= 8))
def test_every_form_of_a_secret_is_masked(secret: str) -> None:
    for text in (
        secret,
        repr(secret),
        repr(secret.encode(errors="surrogatepass")),
        json.dumps(secret),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    ):
        masked = mask_values(f"before {text} after", [secret])
        assert text.strip("'\"b") not in masked or "…" in masked


@pytest.mark.parametrize("user", ["", "u", "me", "you", "user:"])
@pytest.mark.parametrize("secret", ["correct-horse", "zx/+?=~ 8!", "päss/word"])
def test_secret_in_base64(user: str, secret: str) -> None:
    data = f"{user}{secret}".encode()
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        masked = mask_values(f"Basic {encoded.decode()}", [secret])
        # What is left are the characters that the secret shares with what is around it.
        assert len(masked) <= len("Basic …") + len(user) * 2 + 4
        assert "…" in masked


def test_settings_are_shown_without_secrets() -> None:
    document = {
        "environment": {
            "setup": ["docker login -p s3cret", "true"],
            "env": {"TOKEN": "s3cret", "N": "1", "DB": "pg://u:s3cret@h", "KEY_FILE": "/k"},
            "requirements": "a\n--extra-index-url https://u:s3cret@h/\n",
        },
        "options": {"auth": ["s3cret"], "port": 1, "password": None},
        "tags": {"cost-token": "shown"},
        "secret": "env:NAME",
    }
    assert redact(document) == {
        "environment": {
            "setup": HIDDEN,
            "env": {"TOKEN": HIDDEN, "N": "1", "DB": "pg://…@h", "KEY_FILE": "/k"},
            "requirements": "a\n--extra-index-url https://…@h/\n",
        },
        "options": {"auth": HIDDEN, "port": 1, "password": None},
        "tags": {"cost-token": "shown"},
        "secret": "env:NAME",
    }


def test_secrets_of_the_environment() -> None:
    values = {"AWS_SECRET_ACCESS_KEY": "/abcdefgh", "HOME": "/home/me", "X_TOKEN": "short"}
    values["GOOGLE_APPLICATION_CREDENTIALS"] = "/home/me/key.json"
    # Every shell sets these, and errors name files in them.
    values |= {"PWD": "/home/me/project", "OLDPWD": "/home/me/other"}
    assert environment_secrets(values) == {"/abcdefgh"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('{"password": "s3cret-1"}', '{"password": "…"}'),
        ("AccountName=x;AccountKey=s3cret-1;", "AccountName=x;AccountKey=…;"),
        ("run --password=s3cret-1 --all", "run --password=… --all"),
        ("sv=1&sig=s3cret-1", "sv=1&sig=…"),
        ("-----BEGIN RSA PRIVATE KEY-----\ns3cret-1\n", "(hidden)"),
        (["--api-token", "s3cret-1", "--name", "x"], ["--api-token", "(hidden)", "--name", "x"]),
        ("Authorization: Bearer s3cret-1", "Authorization: Bearer …"),
        ("Authorization: Basic czNjcmV0", "Authorization: Basic …"),
        ('{"authorization": "token s3cret-1"}', '{"authorization": "token …"}'),
        ("Bearer s3cret-1", "Bearer …"),
        ("curl -u me:s3cret-1 h", "curl -u me:… h"),
        ("curl --user='me:s3cret-1'", "curl --user='me:…'"),
        ("machine h login me password s3cret-1", "machine h login me password …"),
        ("tokenizer=fast, key=1", "tokenizer=fast, key=1"),
        ("run -u me --user you", "run -u me --user you"),
        ("the login of the bearer", "the login of the bearer"),
    ],
)
def test_values_that_look_like_secrets_are_hidden(value: object, shown: object) -> None:
    assert redact(value, "options", "x") == shown


@pytest.mark.parametrize(
    "name",
    [
        *("GITHUB_PAT", "MY_CREDS", "COOKIE", "SESSION_JWT", "BLOB_SAS", "PIN", "Authorization"),
        *("KEY", "KEYS", "MY_KEY_B64", "TLS_KEY_PEM", "SLACK_WEBHOOK", "WEBHOOK_URL", "HASH_SALT"),
        *("BEARER", "DEPLOY_SSHKEY", "MASTER_KEY", "TOTP_OTP"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert not is_secret_name("PATH")
    assert not is_secret_name("CREDITS")


def test_secret_of_any_bytes_is_masked() -> None:
    secret = b"sEk\xffrit".decode(errors="surrogateescape")
    assert mask_values(f"bad {secret}", [secret]) == "bad …"


def test_repr_of_a_configuration_hides_secrets() -> None:
    environment = Environment(env={"X_TOKEN": "s3cret", "N": "1"}, setup=("login s3cret",))
    config = NodeConfig(group="cpu", cls="a.B", environment=environment, options={"auth": "s3cret"})
    assert "s3cret" not in f"{config!r} {config} {environment!r}"
    assert "'N': '1'" in repr(config)
    state = State(lineage="x", cluster="x", provider="p", configs={config.digest: config})
    assert "s3cret" not in repr(state)
