"""Meaning of AWS's error codes for the fleet, and advice for the user."""

from typing import Any

from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import excerpt_web_page, is_web_page, rejection, suggest

GROUP_NOT_FOUND = "InvalidGroup.NotFound"
VM_NOT_FOUND_CODES = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")

# From "Error codes for the Amazon EC2 API" and "Request throttling", with those of STS and SSM.
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
    # A new resource may not be visible yet; errors in the spec were reported by `check`.
    ErrorKind.UNAVAILABLE: frozenset(
        {"DependencyViolation", GROUP_NOT_FOUND, "InvalidInstanceID.NotFound"}
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

_ADVICE_EXPIRED = "The credentials have expired. Log in again (for SSO: aws sso login), then retry."
_ADVICE_CREDENTIALS = (
    "AWS does not accept these credentials. Check AWS_ACCESS_KEY_ID, AWS_PROFILE, or `profile` "
    "under [provider], and that this region is enabled for the account."
)
_ADVICE_PERMISSION = (
    "Ask an administrator to allow this to your user or role; docs/ec2-iam.md has a sufficient "
    "policy."
)
_ADVICE_QUOTA = (
    "Request an increase in AWS's Service Quotas, or choose another size, region, or market "
    "(`spot`)."
)
ADVICE_CAPACITY = (
    "Try again later, or add sizes to `size` (nodes whose size stays in the list are kept), or add "
    "`zones`, which replaces the group's running nodes."
)
ADVICE: dict[str, str] = {
    "UnauthorizedOperation": _ADVICE_PERMISSION,
    "AccessDenied": _ADVICE_PERMISSION,
    "AccessDeniedException": _ADVICE_PERMISSION,
    "ExpiredToken": _ADVICE_EXPIRED,
    "ExpiredTokenException": _ADVICE_EXPIRED,
    "RequestExpired": f"{_ADVICE_EXPIRED} Otherwise, correct this machine's clock.",
    "AuthFailure": _ADVICE_CREDENTIALS,
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": "An account's first spot VM needs a role "
    "that AWS creates. Ask an administrator to allow you iam:CreateServiceLinkedRole, or to launch "
    "a spot VM once.",
    "InvalidClientTokenId": _ADVICE_CREDENTIALS,
    "UnrecognizedClientException": _ADVICE_CREDENTIALS,
    "SignatureDoesNotMatch": "Check that the secret key belongs to the access key, and that this "
    "machine's clock is correct.",
    "Blocked": "AWS has blocked the account. Contact AWS Support.",
    "PendingVerification": "AWS is still verifying the account in this region. Try again later.",
    "OptInRequired": "Enable the region, or subscribe to the image's product, in the AWS console.",
    "VcpuLimitExceeded": _ADVICE_QUOTA,
    "InstanceLimitExceeded": _ADVICE_QUOTA,
    "MaxSpotInstanceCountExceeded": f'{_ADVICE_QUOTA} With spot = "prefer", planapply launches '
    "on-demand VMs instead.",
    "InsufficientInstanceCapacity": ADVICE_CAPACITY,
    "InsufficientFreeAddressesInSubnet": "Choose other `subnets` under [provider].",
    "Unsupported": "Choose other `zones` or another `size`; this replaces the group's running nodes.",
    "SpotMaxPriceTooLow": 'Try again later, or set spot = "prefer" to use on-demand VMs instead.',
    "SecurityGroupLimitExceeded": "Delete unused security groups, or name an existing one in "
    "`security_groups` under [provider].",
    GROUP_NOT_FOUND: "If it is the cluster's own security group, run `planapply apply` again to create it.",
    "DependencyViolation": "A VM or network interface that planapply did not create uses it. Detach "
    "it in the AWS console, then retry.",
    "InvalidAMIID.NotFound": "Choose an `image` of this region that your account may use.",
    "InvalidKeyPair.NotFound": "Choose a `key_name` of this region, or remove it.",
    "OperationNotPermitted": "The VM has termination protection. Disable it in the AWS console.",
}


def classify(code: str, status: int, *, writes: bool) -> ErrorKind:
    """Return the kind of an error code; `writes`: whether the call may have changed something."""
    if kind := _KIND_BY_CODE.get(code):
        return kind
    if status >= 500:
        # AWS does not say what a call that failed on its side has done.
        return ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE
    return ErrorKind.REJECTED


def code_of(error: ClientError) -> str:
    """Return the error code in AWS's response."""
    return error.response.get("Error", {}).get("Code", "")


def from_client_error(error: ClientError, *, writes: bool) -> ProviderError:
    """Return the ProviderError for a response of AWS that is an error."""
    code = code_of(error)
    message = error.response.get("Error", {}).get("Message", "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    # The encoded part is long, and not readable.
    message = message.partition("Encoded authorization failure message:")[0].rstrip()
    message = f"{message.rstrip('.')} ({code})" if message else code or "unknown error"
    return ProviderError(
        classify(code, status, writes=writes),
        f"{error.operation_name}: {message}",
        ADVICE.get(code, ""),
        code=code,
    )


_PARSER = ResponseParserError.__module__
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
    """Return the ProviderError for a call without a response.

    `writes`: whether it may have changed something; `has_answered`: whether AWS has responded to
    this process before.
    """
    text = str(error).rstrip(".")
    if isinstance(error, aws.ProfileNotFound):
        return _missing_profile_error(text)
    if isinstance(error, _CREDENTIALS):
        return ProviderError(
            ErrorKind.UNAUTHORIZED,
            f"cannot find AWS credentials: {text}",
            "Set AWS_PROFILE or `profile` under [provider], log in (aws sso login, aws configure), "
            "or run planapply where a role provides them.",
        )
    if isinstance(error, aws.NoRegionError):
        return rejection(
            "no AWS region is set",
            'Write region = "eu-west-1" (or another) under [provider], or set AWS_REGION.',
        )
    if isinstance(error, aws.InvalidRegionError):
        return unknown_region_error(region)
    if isinstance(error, aws.SSLError):
        return rejection(
            f"cannot verify AWS's certificate: {text}",
            "If a proxy inspects this network, set AWS_CA_BUNDLE to the proxy's certificates.",
        )
    if isinstance(error, _NOT_SENT):
        if has_answered:
            return ProviderError(ErrorKind.UNAVAILABLE, text)
        if not is_known_region(region):
            return unknown_region_error(region)
        return rejection(
            f"cannot reach AWS: {text}",
            "Check that this machine is online. Behind a proxy, set HTTPS_PROXY.",
        )
    if isinstance(error, aws.HTTPClientError | aws.IncompleteReadError):
        return ProviderError(
            ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE,
            f"AWS's response was lost: {text}",
        )
    return rejection(text)


def reject_web_page(http_response: Any, **_: object) -> None:
    """Raise ResponseParserError for a web page: no AWS service responds with one."""
    if is_web_page(http_response.headers.get("Content-Type", "")):
        raise ResponseParserError(http_response.text)


def is_from_parser(error: BaseException) -> bool:
    """Return whether botocore failed while it read a response."""
    trace, module = error.__traceback__, ""
    while trace is not None:
        module, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return module == _PARSER


def from_web_page(text: str, *, writes: bool, region: str) -> ProviderError:
    """Return the ProviderError for a response that is not AWS's; `text` contains it."""
    # botocore quotes it as bytes, after a message of its own.
    page = text.rpartition("may succeed:\nb")[2].strip("'\"").replace(r"\n", " ")
    excerpt = f": {excerpt_web_page(page)}" if page else ""
    return ProviderError(
        ErrorKind.UNKNOWN if writes else ErrorKind.UNAVAILABLE,
        f"unexpected response for region {region!r}, possibly from a proxy{excerpt}",
        "Check HTTPS_PROXY, AWS_ENDPOINT_URL, and `region` under [provider].",
    )


def _missing_profile_error(text: str) -> ProviderError:
    import botocore.session

    # A session of its own, without the missing profile.
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    profiles = session.available_profiles
    return ProviderError(
        ErrorKind.UNAUTHORIZED,
        text[:1].lower() + text[1:],
        f"Correct `profile` under [provider], or AWS_PROFILE. Profiles in your AWS configuration: "
        f"{', '.join(sorted(profiles)) or 'none'}.",
    )


def is_known_region(region: str) -> bool:
    """Return whether this version of boto3 knows the region."""
    return region in _list_regions()


def unknown_region_error(region: str) -> ProviderError:
    """Return the error for a region that does not exist, most often a typing error."""
    return rejection(
        f"there is no AWS region {region!r}",
        suggest(
            region,
            _list_regions(),
            "AWS's documentation lists the regions and their names.",
            limit=1,
        ),
    )


def _list_regions() -> list[str]:
    import botocore.session

    # Without a profile: AWS_PROFILE may name one that does not exist.
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    partitions = session.get_available_partitions()
    return [r for p in partitions for r in session.get_available_regions("ec2", p)]
