"""What AWS's error codes mean for the fleet, and what the user can do."""

import re
from difflib import get_close_matches
from typing import Any

from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from planapply.provider import ErrorKind, ProviderError

# From "Error codes for the Amazon EC2 API" and "Request throttling"; STS's and SSM's among them.
CODES_BY_KIND: dict[ErrorKind, frozenset[str]] = {
    ErrorKind.THROTTLED: frozenset(
        {
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
            "EC2ThrottledException",
            "SlowDown",
        }
    ),
    # What was made a moment ago may not be seen yet; what is wrong in the spec, `check` has told.
    ErrorKind.UNAVAILABLE: frozenset(
        {"DependencyViolation", "InvalidGroup.NotFound", "InvalidInstanceID.NotFound"}
    ),
    ErrorKind.CAPACITY: frozenset(
        {
            "InsufficientInstanceCapacity",
            "InsufficientCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientFreeAddressesInSubnet",
            "SpotMaxPriceTooLow",
            "UnfulfillableCapacity",
            "Unsupported",
            "UnsupportedOperation",
        }
    ),
    ErrorKind.QUOTA: frozenset(
        {
            "InstanceLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "MaxSpotFleetRequestCountExceeded",
            "VcpuLimitExceeded",
            "VolumeLimitExceeded",
            "NetworkInterfaceLimitExceeded",
            "AddressLimitExceeded",
            "SecurityGroupLimitExceeded",
            "RulesPerSecurityGroupLimitExceeded",
        }
    ),
    ErrorKind.TOKEN_SPENT: frozenset(
        {"IdempotentInstanceTerminated", "IdempotentParameterMismatch"}
    ),
    ErrorKind.UNAUTHORIZED: frozenset(
        {
            "UnauthorizedOperation",
            "AuthFailure",
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            "AccessDenied",
            "AccessDeniedException",
            "Blocked",
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "InvalidClientTokenId",
            "IncompleteSignature",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
            "MissingAuthenticationToken",
            "OptInRequired",
            "PendingVerification",
        }
    ),
}
_KIND_BY_CODE = {code: kind for kind, codes in CODES_BY_KIND.items() for code in codes}

_ADVICE_EXPIRED = (
    "The credentials have expired. Log in again (for SSO: aws sso login), then repeat this."
)
_ADVICE_CREDENTIALS = (
    "AWS does not accept these credentials. Check AWS_ACCESS_KEY_ID, AWS_PROFILE or `profile` "
    "under [provider], and that the account has this region enabled."
)
_ADVICE_QUOTA = (
    "Ask for more in AWS's Service Quotas, or take another size, region or market (`spot`)."
)
ADVICE_CAPACITY = (
    "Try later, or name more sizes (`size` takes a list; nodes of a size on it stay), or more "
    "`zones`, which replaces the group's nodes that run."
)
ADVICE: dict[str, str] = {
    "UnauthorizedOperation": "Somebody must allow it to your user or role; the policy that is "
    "enough stands in planapply's docs, docs/ec2-iam.md.",
    "AccessDenied": "Somebody must allow it to your user or role; see docs/ec2-iam.md.",
    "AccessDeniedException": "Somebody must allow it to your user or role; see docs/ec2-iam.md.",
    "ExpiredToken": _ADVICE_EXPIRED,
    "ExpiredTokenException": _ADVICE_EXPIRED,
    "RequestExpired": f"{_ADVICE_EXPIRED} If they have not, this machine's clock is wrong.",
    "AuthFailure": _ADVICE_CREDENTIALS,
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": "An account's first spot VM needs a role "
    "that AWS makes for it: somebody must allow you iam:CreateServiceLinkedRole, or launch one.",
    "InvalidClientTokenId": _ADVICE_CREDENTIALS,
    "UnrecognizedClientException": _ADVICE_CREDENTIALS,
    "SignatureDoesNotMatch": "The secret key does not belong to the access key, or this machine's "
    "clock is wrong.",
    "Blocked": "AWS has blocked the account; its support says why.",
    "PendingVerification": "AWS is still verifying the account in this region; wait and try again.",
    "OptInRequired": "Enable the region, or the image's product, for your account in AWS's "
    "console.",
    "VcpuLimitExceeded": _ADVICE_QUOTA,
    "InstanceLimitExceeded": _ADVICE_QUOTA,
    "MaxSpotInstanceCountExceeded": f'{_ADVICE_QUOTA} With spot = "prefer" on-demand VMs are taken then.',
    "InsufficientInstanceCapacity": ADVICE_CAPACITY,
    "InsufficientFreeAddressesInSubnet": "Name other `subnets` under [provider].",
    "Unsupported": "Name other `zones` or another `size`, which replaces the group's nodes that run.",
    "SpotMaxPriceTooLow": 'Try later, or set spot = "prefer" for on-demand VMs then.',
    "SecurityGroupLimitExceeded": "Remove some, or name one in `security_groups` under [provider].",
    "InvalidGroup.NotFound": "One that planapply has made and somebody removed, the next apply makes "
    "again.",
    "DependencyViolation": "A VM or a network interface that planapply has not made is in it: take it "
    "out in AWS's console, then repeat this.",
    "InvalidAMIID.NotFound": "Name an `image` of this region that your account may use.",
    "InvalidKeyPair.NotFound": "Name a `key_name` of this region, or leave it out.",
    "OperationNotPermitted": "Somebody has protected it from its end; take the protection off in "
    "AWS's console.",
}


def classify(code: str, status: int, *, writes: bool) -> ErrorKind:
    """What an error code means; `writes`: whether the call may have changed something."""
    if kind := _KIND_BY_CODE.get(code):
        return kind
    if status >= 500:
        # AWS promises nothing of a call that failed on its side.
        return ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE
    return ErrorKind.REJECTED


def from_client_error(error: ClientError, *, writes: bool) -> ProviderError:
    """AWS has answered, and said no."""
    answer, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    code, message = answer.get("Code", "?"), answer.get("Message", "")
    kind = classify(code, int(meta.get("HTTPStatusCode", 0)), writes=writes)
    # The encoded part says nothing to a person, and fills a screen.
    message = re.sub(r"\s*Encoded authorization failure message:.*", "", message, flags=re.DOTALL)
    summary = f"{error.operation_name}: {message or code}".rstrip(".")
    return ProviderError(
        kind, summary if code in summary else f"{summary} ({code})", ADVICE.get(code, "")
    )


_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.SSOError,
    aws.LoginError,
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
    aws.MetadataRetrievalError,
    aws.RefreshWithMFAUnsupportedError,
)
_NOT_SENT = (aws.EndpointConnectionError, aws.ConnectTimeoutError, aws.ProxyConnectionError)


def from_sdk_error(
    error: BotoCoreError, *, writes: bool, has_answered: bool, region: str
) -> ProviderError:
    """There is no answer; `has_answered`: whether AWS has answered this process before."""
    text = str(error).rstrip(".")
    if isinstance(error, aws.ProfileNotFound):
        return _missing_profile_error(text)
    if isinstance(error, _CREDENTIALS):
        return ProviderError(
            ErrorKind.UNAUTHORIZED,
            f"there are no AWS credentials to use: {text}",
            "Set AWS_PROFILE or `profile` under [provider], log in (aws sso login, aws configure), "
            "or run this where a role gives them.",
        )
    if isinstance(error, aws.NoRegionError):
        return ProviderError(
            ErrorKind.REJECTED,
            "no AWS region is set",
            'Write region = "eu-west-1", or another, under [provider], or set AWS_REGION.',
        )
    if isinstance(error, aws.InvalidRegionError):
        return unknown_region_error(region)
    if isinstance(error, aws.SSLError):
        return ProviderError(
            ErrorKind.REJECTED,
            f"AWS's certificate can't be verified: {text}",
            "If a proxy inspects this network, set AWS_CA_BUNDLE to its certificates.",
        )
    if isinstance(error, _NOT_SENT):
        if has_answered:
            return ProviderError(ErrorKind.UNAVAILABLE, text)
        if not is_known_region(region):
            return unknown_region_error(region)
        return ProviderError(
            ErrorKind.REJECTED,
            f"AWS can't be reached from here: {text}",
            "Is this machine online? Behind a proxy, set HTTPS_PROXY.",
        )
    if isinstance(error, aws.HTTPClientError | aws.IncompleteReadError):
        return ProviderError(
            ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE,
            f"AWS's answer was lost: {text}",
        )
    return ProviderError(ErrorKind.REJECTED, text)


def reject_web_page(http_response: Any, **_: object) -> None:
    """Raise ResponseParserError for a web page, which no service of AWS's answers with."""
    if "text/html" in http_response.headers.get("Content-Type", "").lower():
        raise ResponseParserError(http_response.text)


def from_web_page(text: str, *, writes: bool, region: str) -> ProviderError:
    """Something has answered that is not AWS, or not as AWS does; `text` holds what it said."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    # botocore quotes it as bytes, behind words of its own.
    page = text.rpartition("may succeed:\nb")[2].strip("'\"").replace(r"\n", " ")
    excerpt = " ".join(re.sub(r"<[^>]*>", " ", title[1] if title else page).split())
    return ProviderError(
        ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE,
        f"what answered for AWS's region {region!r} is a proxy or another server, by its words: "
        f"{excerpt[:80]}",
        "Is there a proxy in between (HTTPS_PROXY), is AWS_ENDPOINT_URL set, or is `region` under "
        "[provider] another one than you mean?",
    )


def _missing_profile_error(text: str) -> ProviderError:
    import boto3

    # Without the environment's AWS_PROFILE, which may be the one that is missing.
    profiles = boto3.session.Session().available_profiles
    return ProviderError(
        ErrorKind.UNAUTHORIZED,
        text[:1].lower() + text[1:],
        f"Your AWS configuration has: {', '.join(sorted(profiles)) or 'no profile'}. Put `profile` "
        "under [provider], or AWS_PROFILE, right.",
    )


def is_known_region(region: str) -> bool:
    """Whether this version of boto3 knows that region."""
    return region in _list_regions()


def unknown_region_error(region: str) -> ProviderError:
    """Most often a slip of the finger."""
    matches = get_close_matches(region, _list_regions(), 1)
    return ProviderError(
        ErrorKind.REJECTED,
        f"there is no AWS region {region!r}",
        f"Did you mean {matches[0]!r}?" if matches else "AWS's pages list its regions.",
    )


def _list_regions() -> list[str]:
    import boto3

    session = boto3.Session()
    partitions = session.get_available_partitions()
    return [r for p in partitions for r in session.get_available_regions("ec2", p)]
