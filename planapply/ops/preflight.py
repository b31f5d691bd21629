"""What can be known to fail is told before anything is launched."""

import base64
import hashlib

from pydantic import SecretStr

from planapply import bootstrap
from planapply.fleet import ProviderClient
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.names import SCHEDULER, node_name
from planapply.model.node import NodeConfig
from planapply.model.plan import Action, Plan
from planapply.model.state import TLS
from planapply.provider import Limits

LARGE_INDEX = 99_999  # as long as an index gets


def check_plan(plan: Plan, client: ProviderClient) -> None:
    """Raise PlanapplyError with all that is wrong with the VMs that the plan would launch."""
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


def _check_user_data_size(config: NodeConfig, limits: Limits) -> Diagnostic | None:
    if not limits.user_data:
        return None
    is_scheduler = config.group == SCHEDULER
    # As large as it can get: a batch of nodes far apart, and a key like those that TLS takes.
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
        summary=f"what {config.group} is told at its boot is too large: "
        f"{size:,} bytes compressed, of {limits.user_data:,} that the cloud takes",
        detail="Shorten `requirements`, `packages`, `setup` or `options`; a container (`docker`) or "
        "an `image` that has it all needs none of them.",
    )


def _sample_key() -> TLS:
    text = base64.b64encode(b"".join(hashlib.sha512(bytes([i])).digest() for i in range(10)))
    return TLS(certificate=text.decode(), key=SecretStr(text[:250].decode()))
