"""Checks before an apply: errors that are known in advance are reported before anything is launched."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from pydantic import SecretStr

from planapply import bootstrap
from planapply.fleet import ProviderClient, error_code
from planapply.model.diagnostics import Diagnostic, PlanapplyError, Severity, warning
from planapply.model.names import SCHEDULER, node_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Plan
from planapply.model.state import TLS
from planapply.provider import Limits
from planapply.providerkit import open_networks, wide_networks

LARGE_INDEX = 99_999  # the longest possible index
_MAX_NETWORKS = 5
"""Networks that a message names."""


def check_plan(plan: Plan, client: ProviderClient) -> None:
    """Raise PlanapplyError with every error in the VMs and resources that the plan would make."""
    new = {
        change.after: plan.configs[change.after]
        for change in plan.changes
        if change.after is not None and change.action in (Action.CREATE, Action.REPLACE)
    }
    problems = []
    if new or any(change.kind == "resource" for change in plan.changes):
        problems += [
            unsafe_access_error(networks)
            for networks in _wide_access(plan)
            if plan.security == "none"
        ]
    configs = list(new.values())
    problems += [
        found for config in configs if (found := check_user_data_size(config, client.limits))
    ]
    if configs:
        problems += [
            Diagnostic(summary=e.summary, detail=e.detail, code=error_code(e))
            for e in client.check(configs)
        ]
    if problems:
        raise PlanapplyError(diagnostics=tuple(problems))


def check_settings(plan: Plan, client: ProviderClient) -> list[Diagnostic]:
    """Return warnings about settings that the next launch would not accept, if the plan launches nothing.

    Otherwise `check_plan` has checked them.
    """
    if any(change.action in (Action.CREATE, Action.REPLACE) for change in plan.changes):
        return []
    return [warning(error.summary, error.detail) for error in client.check_settings()]


def access_warnings(plan: Plan) -> list[Diagnostic]:
    """Return a warning if a large part of the internet can reach the scheduler."""
    return [
        open_access_warning(networks)
        if plan.security == "tls"
        else unsafe_access_error(networks).model_copy(update={"severity": Severity.WARNING})
        for networks in _wide_access(plan)
    ]


def open_access_warning(networks: Sequence[str]) -> Diagnostic:
    """Return the warning about networks from which anyone can reach the scheduler of a TLS cluster."""
    return warning(
        f"anyone on the internet can reach the scheduler: {_list_networks(networks)} is allowed",
        "TLS protects the scheduler, but the dashboard has no login: it shows code and data to everyone "
        "who can reach it. Allow smaller networks.",
    )


def unsafe_access_error(networks: Sequence[str]) -> Diagnostic:
    """Return the error about wide networks that can reach a scheduler without TLS."""
    return Diagnostic(
        summary=f'cannot allow {_list_networks(networks)}: with security = "none" anyone who reaches '
        "the scheduler can run code on every node",
        detail='Write security = "tls" under [cluster], or allow smaller networks.',
        code="unsafe_access",
    )


def _list_networks(networks: Sequence[str]) -> str:
    more = len(networks) - _MAX_NETWORKS
    return ", ".join(networks[:_MAX_NETWORKS]) + (f", and {more:,} more" if more > 0 else "")


def _wide_access(plan: Plan) -> Iterator[list[str]]:
    for resource in (plan.resources or {}).values():
        if wide := wide_networks(open_networks(resource.detail)):
            yield wide


def check_user_data_size(
    config: NodeConfig, limits: Limits, secrets: Mapping[str, str] = {}
) -> Diagnostic | None:
    """Return the error if the user data of a group would be too large; None if not.

    `secrets` are the values of the configuration's secrets, as far as they are known.
    """
    if not limits.user_data:
        return None
    is_scheduler = config.group == SCHEDULER
    # The largest possible user data: a full batch without ranges, and a key of the usual size.
    names = [node_name(config.group, LARGE_INDEX - 2 * i) for i in range(limits.batch)]
    size = len(
        bootstrap.build_user_data(
            config,
            [SCHEDULER] if is_scheduler else names,
            None if is_scheduler else "tls://255.255.255.255:65535",
            _sample_key() if config.security == "tls" else None,
            cluster="x" * 63,
            secrets=secrets,
        )
    )
    if size <= limits.user_data:
        return None
    return Diagnostic(
        summary=f"user data for group {config.group} is too large: {size:,} bytes compressed; the "
        f"cloud accepts {limits.user_data:,}",
        detail=(
            "Shorten the secrets in `env`, `requirements`" if secrets else "Shorten `requirements`"
        )
        + ", `packages`, `setup`, or `options`; or use a container "
        "(`docker`) or an `image` that contains the packages.",
    )


def _sample_key() -> TLS:
    text = base64.b64encode(b"".join(hashlib.sha512(bytes([i])).digest() for i in range(10)))
    return TLS(certificate=text.decode(), key=SecretStr(text[:250].decode()))
