"""Credentials and settings that cloud SDKs read from environment variables."""

import os
from collections.abc import Iterable
from typing import Any

AWS_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""In this order, as in the AWS command line; boto3 knows only the second one."""
AWS_PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")
"""In this order, as in the AWS command line and in boto3."""


def find_malformed_variables(*prefixes: str) -> list[str]:
    """Return the names of the variables with these prefixes that an SDK would reject, or even print.

    A value that was copied from a file may end in a line end. No setting has control characters, or
    blanks at its ends.
    """
    return sorted(
        name
        for name, value in os.environ.items()
        if name.startswith(prefixes) and (value != value.strip() or has_control_character(value))
    )


def has_control_character(text: str) -> bool:
    """Return whether a value cannot be sent in an HTTP header: bytes that are not UTF-8 count, too."""
    return any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in text)


def is_malformed_aws_credential(credentials: Any) -> bool:
    """Return whether botocore's credentials, from a file or a program, cannot be sent.

    Credentials that expire are not checked: reading them may send a request.
    """
    if type(credentials).__name__ != "Credentials":
        return False
    values = (credentials.access_key, credentials.secret_key, credentials.token)
    return any(value and has_control_character(value) for value in values)


def describe_malformed(names: Iterable[str]) -> tuple[str, str]:
    """Return the summary and detail of the error for these variables; no value is shown."""
    listed = ", ".join(names)
    return (
        f"cannot use environment variable {listed}: a line end, blank, or control character is in "
        "its value",
        "Set it again without that character; a value that was read from a file often ends in a line "
        "end.",
    )


def aws_region(region: str | None) -> str | None:
    """Return `region`, or else that of the environment; None for the profile's region."""
    return region or _first_set(AWS_REGION_VARIABLES)


def aws_session_variables() -> dict[str, Any]:
    """Return botocore's `session_vars`: an empty AWS_PROFILE counts as unset."""
    return {
        "profile": (None, None, _first_set(AWS_PROFILE_VARIABLES), None),
        "region": ("region", None, None, None),
    }


def _first_set(names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
