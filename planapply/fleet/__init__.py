"""Launching and terminating VMs: batches, waits, retries, rate limits, intents."""

from planapply.fleet.clock import Clock, Stopped, SystemClock
from planapply.fleet.fleet import Fleet, LaunchSpec
from planapply.fleet.interruptible import Abandoned, run_interruptibly
from planapply.fleet.journal import Journal
from planapply.fleet.launch import Listener, Outcome
from planapply.fleet.plugin_calls import ProviderFailed, error_code
from planapply.fleet.prices import Budget, PriceList
from planapply.fleet.provider_client import ProviderClient, connect_provider
from planapply.fleet.secrets import node_secrets, read_secrets, unset_variables

__all__ = [
    "Abandoned",
    "Budget",
    "Clock",
    "Fleet",
    "Journal",
    "LaunchSpec",
    "Listener",
    "Outcome",
    "PriceList",
    "ProviderClient",
    "ProviderFailed",
    "Stopped",
    "SystemClock",
    "connect_provider",
    "error_code",
    "node_secrets",
    "read_secrets",
    "run_interruptibly",
    "unset_variables",
]
