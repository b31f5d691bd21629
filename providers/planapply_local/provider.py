"""The provider `local`: process sessions on this machine in place of VMs.

VMs are found only by the environments of their processes. A VM's folder has nothing that is needed to
find or terminate it: only its log, scratch files, keys, and tags that were changed after the launch.
"""

import fcntl
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, Limits, ProviderError
from planapply.providerkit import (
    TAG_CONFIG,
    TAG_NAMES,
    VM,
    Choice,
    EndReason,
    NodeConfig,
    expand_home,
    find_user_folder,
    is_own_tag,
    rejection,
    user_tags,
)
from planapply_local import supervisor
from planapply_local.start import start

USER_TAGS_FILE = "tags.json"  # in a VM's folder, once the user's tags were changed


class LocalProvider:
    """This machine, for one user; `folder` is the setting of that name."""

    limits = Limits(batch=100, parallel=2, consistency_delay=1.0, poll=0.2)

    def __init__(self, folder: str | None = None) -> None:
        if folder is None:
            import platformdirs

            user_folder = find_user_folder(platformdirs.user_state_path)
            if user_folder is None:
                raise rejection(
                    "cannot choose a folder for the nodes' logs: your home folder is unknown",
                    "Set HOME or XDG_STATE_HOME, or `folder` under [provider] to an absolute path.",
                )
            self.folder = user_folder / "local"
        else:
            self.folder = Path(expand_home(folder))
        self._lock_path = self.folder / "lock"

    def identity(self) -> dict[str, str]:
        """Return this machine and user: VMs of others can be neither found nor terminated."""
        return {"host": platform.node(), "user": str(os.getuid())}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Return the only choice."""
        return [Choice()]

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Start the VMs of the batch that were never started.

        A VM that was started and has stopped is not started again: the shortfall is `TOKEN_SPENT`.
        """
        with self._hold_lock() as lock:
            vms = self._find_vms()
            batch = {vm.index: vm for vm in vms if vm.batch == request.token}
            if any(
                vm.tags.get(key) != request.tags.get(key)
                for vm in batch.values()
                for key in (TAG_NAMES, TAG_CONFIG)
            ):
                raise ProviderError(ErrorKind.TOKEN_SPENT, "the token was used for another request")
            missing = {
                index: _make_id(request.token, index)
                for index in range(len(request.names))
                if index not in batch
            }
            shortfall = self._remove_ended(request, missing)
            try:
                for index, id in missing.items():
                    vm = start(request, index, id, self._folder_of(id), vms, lock)
                    batch[index] = vm
                    vms.append(vm)
            except ProviderError as error:
                shortfall = error
        if shortfall is not None and not batch:
            raise shortfall
        return LaunchResult(tuple(batch[index] for index in sorted(batch)), shortfall)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Return the running sessions with these tags; wait for a launch in progress."""
        with suppress(OSError), self._lock_path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        vms = self._find_vms()
        if self._is_empty():
            with self._hold_lock(is_required=False):
                pass  # the last VM's folder was removed after `terminate`: now remove the lock file
        return [vm for vm in vms if tags.items() <= vm.tags.items()]

    def list_vms(self) -> list[VM]:
        """Return all sessions of this user."""
        return self.find({})

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Request the supervisors to stop their VMs within a grace period.

        On a second request, or without a supervisor, kill the VM's processes. Remove the folders of VMs
        that have stopped.
        """
        with self._hold_lock(is_required=False):
            processes = supervisor.find_processes()
            for id in ids:
                if id in processes and self._request_termination(id, processes[id]):
                    continue
                if id in processes:
                    supervisor.kill(id)
                shutil.rmtree(self._folder_of(id), ignore_errors=True)
        return ()  # with the lock held, every VM that was launched is visible

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Store the user's tags in a file; a VM that has stopped needs none."""
        with self._hold_lock(is_required=False):
            for vm in self._find_vms():
                if vm.id in ids:
                    kept = {key: value for key, value in vm.tags.items() if key not in removed}
                    self._write_user_tags(vm.id, user_tags(kept | dict(tags)))

    def console(self, id: str, lines: int) -> str:
        """Return the end of the VM's log, which is kept until the VM is terminated."""
        try:
            with (self._folder_of(id) / supervisor.LOG).open("rb") as file:
                return _read_tail(file, lines)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise rejection(f"cannot read the log: {error}") from error

    def end_reasons(self, ids: Sequence[str]) -> Mapping[str, EndReason]:
        """Return the reasons that the supervisors have recorded."""
        found: dict[str, EndReason] = {}
        for id in ids:
            with suppress(OSError, ValueError):  # it was killed, or the file is not planapply's
                found[id] = EndReason((self._folder_of(id) / supervisor.ENDED).read_text())
        return found

    def secrets(self, id: str) -> str:
        """Return the key pair that the VM's Dask process reads."""
        return "".join(path.read_text() for path in sorted(self._folder_of(id).glob("*.pem")))

    def _find_vms(self) -> list[VM]:
        vms = []
        for id, vm_processes in supervisor.find_processes().items():
            with suppress(ValueError):  # the environment is not planapply's
                vm = self._read_vm(
                    id, json.loads(vm_processes[0][1].get(supervisor.ENV_VM_FACTS, ""))
                )
                # The folder is removed last: the VM may have stopped since its processes were found.
                if self._folder_of(id).exists() or supervisor.is_alive(vm_processes):
                    vms.append(vm)
        return sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id))

    def _read_vm(self, id: str, facts: dict[str, Any]) -> VM:
        folder = self._folder_of(id)
        if (folder / supervisor.STOPPING).exists():
            facts["status"] = "stopping"
        with suppress(OSError):
            own_tags = {key: value for key, value in facts["tags"].items() if is_own_tag(key)}
            facts["tags"] = json.loads((folder / USER_TAGS_FILE).read_text()) | own_tags
        return VM(**facts)

    def _folder_of(self, id: str) -> Path:
        # An ID comes from a state, and this folder is removed without another check.
        return self.folder / (id if re.fullmatch(r"vm-[\w.-]+", id, re.ASCII) else "vm-")

    def _remove_ended(
        self, request: LaunchRequest, missing: dict[int, str]
    ) -> ProviderError | None:
        """Remove VMs that have stopped from `missing`, and their folders; return the shortfall."""
        ended = {index: id for index, id in missing.items() if self._folder_of(id).exists()}
        if not ended:
            return None
        logs = [self.console(id, 20) for id in ended.values()]
        for index, id in ended.items():
            del missing[index]
            shutil.rmtree(self._folder_of(id), ignore_errors=True)
        names = ", ".join(request.names[index] for index in ended)
        return ProviderError(
            ErrorKind.TOKEN_SPENT, f"stopped right after the start: {names}", logs[0]
        )

    def _request_termination(self, id: str, vm_processes: supervisor.VMProcesses) -> bool:
        """Request the supervisor to stop the VM; return False if it was requested before, or fails."""
        import psutil

        supervisors = [
            process
            for process, environment in vm_processes
            if supervisor.ENV_SUPERVISOR in environment
        ]
        try:
            (self._folder_of(id) / supervisor.STOPPING).touch(mode=0o600, exist_ok=False)
            for process in supervisors:
                process.terminate()
        except (OSError, psutil.Error):
            return False
        return bool(supervisors)

    def _write_user_tags(self, id: str, tags: dict[str, str]) -> None:
        path = self._folder_of(id) / USER_TAGS_FILE
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(tags))
            new.replace(path)
        except OSError as error:
            raise self._unwritable_error(error) from error

    @contextmanager
    def _hold_lock(self, *, is_required: bool = True) -> Iterator[int]:
        """Hold the folder's lock; its next holder finds every VM that was started.

        A supervisor inherits the descriptor, and closes it once its environment shows it: so a VM is
        found even if planapply was killed while starting it. Unless `is_required`, continue without a
        lock if the folder is missing or full: VMs must always be terminable.
        """
        lock = -1
        try:
            lock = self._open_lock(os.O_CREAT if is_required else 0)
        except OSError as error:
            if is_required:
                raise self._unwritable_error(error) from error
        try:
            yield lock
        finally:
            if lock >= 0:
                with suppress(OSError):
                    if self._is_empty():
                        self._lock_path.unlink()
                fcntl.flock(lock, fcntl.LOCK_UN)
                os.close(lock)

    def _is_empty(self) -> bool:
        try:
            return os.listdir(self.folder) == [self._lock_path.name]
        except OSError:
            return False

    def _open_lock(self, create: int) -> int:
        while True:
            if create:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._lock_path, os.O_RDWR | create, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(lock), self._lock_path.stat()):
                    return lock
            except FileNotFoundError:
                pass
            except OSError:
                os.close(lock)
                raise
            os.close(lock)  # its last holder has removed the file

    def _unwritable_error(self, error: OSError) -> ProviderError:
        return rejection(
            f"cannot write to the folder of provider `local`: {error}",
            "Set `folder` under [provider] to a folder that you own, on a disk with free space.",
        )


def _make_id(token: str, index: int) -> str:
    # With the token: if the request is repeated, the folder shows that a VM has stopped.
    if not re.fullmatch(r"[\w.-]{1,64}", token, re.ASCII):
        raise rejection(f"{token!r} is not a token")
    return f"vm-{token}-{index}"


def _read_tail(file: BinaryIO, lines: int) -> str:
    """Return the last lines, read from the end in growing pieces: a log may be long."""
    size, chunk_size = file.seek(0, os.SEEK_END), 1 << 14
    while True:
        file.seek(max(0, size - chunk_size))
        data = file.read()
        if chunk_size >= size or data.count(b"\n") > lines:
            text = data.decode(errors="replace").splitlines(keepends=True)
            return "".join(text[-lines:]) if lines else ""
        chunk_size *= 4
