"""Checks before an apply: errors that are known in advance are reported before anything is launched."""

import base64
import hashlib

from pydantic import SecretStr

from planapply import bootstrap
from planapply.fleet import ProviderClient
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.names import SCHEDULER, node_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Plan
from planapply.model.state import TLS
from planapply.provider import Limits

LARGE_INDEX = 99_999  # the longest possible index


def check_plan(plan: Plan, client: ProviderClient) -> None:
    """Raise PlanapplyError with every error in the VMs that the plan would launch."""
    new = {
        change.after: plan.configs[change.after]
        for change in plan.changes
        if change.after is not None and change.action in (Action.CREATE, Action.REPLACE)
    }
    if not new:
        return
    configs = list(new.values())
    problems = [
        found for config in configs if (found := _check_user_data_size(config, client.limits))
    ]
    problems += [Diagnostic(summary=e.summary, detail=e.detail) for e in client.check(configs)]
    if problems:
        raise PlanapplyError(diagnostics=tuple(problems))


def check_settings(plan: Plan, client: ProviderClient) -> list[Diagnostic]:
    """Return warnings about settings that the next launch would not accept, if the plan launches nothing.

    Otherwise `check_plan` has checked them.
    """
    if any(change.action in (Action.CREATE, Action.REPLACE) for change in plan.changes):
        return []
    return [warning(error.summary, error.detail) for error in client.check_settings()]


def _check_user_data_size(config: NodeConfig, limits: Limits) -> Diagnostic | None:
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
        )
    )
    if size <= limits.user_data:
        return None
    return Diagnostic(
        summary=f"user data for group {config.group} is too large: {size:,} bytes compressed; the "
        f"cloud accepts {limits.user_data:,}",
        detail="Shorten `requirements`, `packages`, `setup`, or `options`; or use a container "
        "(`docker`) or an `image` that contains the packages.",
    )


def _sample_key() -> TLS:
    text = base64.b64encode(b"".join(hashlib.sha512(bytes([i])).digest() for i in range(10)))
    return TLS(certificate=text.decode(), key=SecretStr(text[:250].decode()))
