"""Supervisor of one VM of the provider `local`, and the functions that find all VMs.

The supervisor leads the VM's session: it starts the Dask process, stops it after its `ttl` or on
request, and leaves no process behind. It is a script, `python -I -S supervisor.py`, that imports only
the standard library, so that it starts in 10 ms; its instructions are JSON on stdin.
"""

import json
import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

ENV_VM_ID = "PLANAPPLY_VM"
"""Variable in the environment of every process of a VM: its ID."""
ENV_VM_FACTS = "PLANAPPLY_TAGS"
"""Variable in the same environments: the VM's tags, index, address, and so on, as JSON."""
ENV_SUPERVISOR = "PLANAPPLY_KEEPER"
"""Variable in the environment of the supervisor only; named as in earlier versions, whose VMs may
still run."""
LOG, STOPPING, ENDED = "log", "stopping", "ended"
"""Files in the VM's folder; `stopping` exists once the VM stops, or was requested to; `ended` says why it
stopped, unless that was requested: a value of planapply's `EndReason`."""
GRACE_PERIOD = 3.0
"""Seconds between SIGTERM and SIGKILL for the Dask process."""
MAX_SELECT_TIMEOUT = 86400.0

VMProcesses = list[tuple["psutil.Process", dict[str, str]]]


def find_processes() -> dict[str, VMProcesses]:
    """Return every process of this user's VMs with its environment, by the VM's ID."""
    import psutil

    found: dict[str, VMProcesses] = {}
    for pid in psutil.pids():
        # The process may exit meanwhile, be a zombie, or another user's.
        with suppress(psutil.Error):
            # A new object has the start time, so that no signal reaches a reused PID.
            process = psutil.Process(pid)
            environment = process.environ()
            if ENV_VM_ID in environment and process.uids().real == os.getuid():
                found.setdefault(environment[ENV_VM_ID], []).append((process, environment))
    return found


def is_alive(vm_processes: VMProcesses) -> bool:
    """Return whether any of these processes still runs."""
    import psutil

    for process, _ in vm_processes:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def kill(id: str) -> None:
    """Kill every process of a VM except the caller; wait at most a second until they are gone."""
    import psutil

    killed: set[psutil.Process] = set()
    # Repeat while there are new processes: one may have forked before it was killed.
    for _ in range(100):
        new = {process for process, _ in find_processes().get(id, [])} - killed
        new = {process for process in new if process.pid != os.getpid()}
        if not new:
            break
        for process in new:
            with suppress(psutil.Error):
                process.kill()
        killed |= new
    psutil.wait_procs(killed, timeout=1.0)


def main() -> None:
    """Create the VM's folder, and supervise in the background; on failure, exit 1 with the reason."""
    try:
        # Incomplete if planapply was killed: then no VM starts.
        instructions = json.load(sys.stdin)
        log = _create_folder(instructions["folder"], instructions["files"])
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    if os.fork():
        os._exit(0)
    wakeups, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # The next holder of the lock finds this process by its environment.
    os.close(instructions["lock"])

    status, reason = _supervise(
        instructions["argv"], instructions["env"], instructions["seconds"], wakeups
    )
    _record_reason(reason, instructions["is_scheduler"])
    print(f"planapply: the Dask process exited: {status}", flush=True)
    sys.path.append(instructions["psutil"])
    try:
        kill(os.environ[ENV_VM_ID])
    finally:
        if not _mark_stopping():
            shutil.rmtree(instructions["folder"], ignore_errors=True)
            os._exit(0)  # at once: without a folder, this process would count as a running VM


def _record_reason(reason: str, is_scheduler: bool) -> None:
    if not reason:
        return
    if reason == "powered_off" and is_scheduler:
        # Unless the scheduler has printed another reason before.
        print("planapply: this VM ends: shutdown")
    with suppress(OSError), open(ENDED, "w") as file:
        file.write(reason)


def _mark_stopping() -> bool:
    """Mark the VM as stopping; return False if its termination was requested already.

    If not, the next `terminate` removes the folder.
    """
    try:
        os.close(os.open(STOPPING, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    except OSError:  # a full disk
        return True
    return True


def _create_folder(folder: str, files: dict[str, str]) -> int:
    """Create the VM's folder, readable only by its user; return the descriptor of the log."""
    umask = os.umask(0o077)
    os.makedirs(folder)
    try:
        for name, content in files.items():
            with open(os.path.join(folder, name), "x") as file:
                file.write(content)
        log = os.open(os.path.join(folder, LOG), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    os.chdir(folder)
    os.umask(umask)
    return log


def _supervise(
    argv: list[str], env: dict[str, str], seconds: float | None, wakeups: int
) -> tuple[str, str]:
    """Run the Dask process until it exits; stop it after `seconds`, or on SIGTERM.

    Return a description of its exit, and the reason; empty if it was requested.
    """
    try:
        child = os.posix_spawn(
            argv[0], argv, env, setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
        )
    except OSError as error:
        return str(error), "failed"
    reason = None
    deadline = time.monotonic() + (inf if seconds is None else seconds)
    stop_signal = signal.SIGTERM
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            if reason is None:
                reason = "failed" if code else "powered_off"
            return _describe_exit(code), reason
        timeout = min(max(0.0, deadline - time.monotonic()), MAX_SELECT_TIMEOUT)
        ready, _, _ = select.select([wakeups], [], [], timeout)
        is_stop_requested = ready and signal.SIGTERM in os.read(wakeups, 4096)
        if is_stop_requested or time.monotonic() >= deadline:
            if reason is None:
                reason = "" if is_stop_requested else "ttl"
            os.kill(child, stop_signal)
            stop_signal, deadline = signal.SIGKILL, time.monotonic() + GRACE_PERIOD


def _describe_exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


if __name__ == "__main__":
    main()
