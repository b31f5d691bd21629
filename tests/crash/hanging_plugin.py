"""The provider `local` with a call that never returns, if the environment says so.

`HANG` is the name of the call, and `HANG_AT` the number of such calls that are answered first. The file
`hanging` in the current folder appears when a call hangs.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from planapply_local import PLUGIN as LOCAL
from planapply_local.provider import LocalProvider

from planapply.model.node import VM
from planapply.provider import LaunchRequest, LaunchResult

_calls = {"answered": 0}


def _hang_if_requested(call: str) -> None:
    if os.environ.get("HANG") == call:
        _calls["answered"] += 1
        if _calls["answered"] > int(os.environ.get("HANG_AT", "0")):
            Path("hanging").touch()
            threading.Event().wait()


class HangingProvider(LocalProvider):
    """A provider that hangs after carrying out a call, before it returns."""

    def launch(self, request: LaunchRequest) -> LaunchResult:
        result = super().launch(request)
        _hang_if_requested("launch")
        return result

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        found = super().find(tags)
        _hang_if_requested("find")
        return found

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        unknown = super().terminate(ids)
        _hang_if_requested("terminate")
        return unknown

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        super().retag(ids, tags, removed)
        _hang_if_requested("retag")


def _connect(settings: Any) -> HangingProvider:
    return HangingProvider(settings.folder)


PLUGIN = replace(LOCAL, name="hanging", connect=_connect)
