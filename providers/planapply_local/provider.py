"""What planapply asks of this machine: process sessions in place of VMs.

What exists is read from the processes' environments alone. The folder holds nothing that is needed
to find or end a VM: its log, its scratch files and keys, and tags that were changed later.
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

from planapply.model.node import TAG_CONFIG, TAG_NAMES, TAG_PREFIX, VM, NodeConfig
from planapply.model.state import Choice
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, Limits, ProviderError
from planapply_local import supervisor
from planapply_local.start import start

USER_TAGS_FILE = "tags.json"  # in a VM's folder, once they were changed


class LocalProvider:
    """This machine, for one user; `folder` as in the settings."""

    limits = Limits(batch=100, parallel=2, consistency_delay=1.0, poll=0.2)

    def __init__(self, folder: str | None = None) -> None:
        if folder is None:
            import platformdirs

            self.folder = platformdirs.user_state_path("planapply") / "local"
        else:
            self.folder = Path(folder).expanduser()
        self._lock_path = self.folder / "lock"

    def identity(self) -> dict[str, str]:
        """This machine and user: another one's VMs can be neither seen nor ended from here."""
        return {"host": platform.node(), "user": str(os.getuid())}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """There is but one kind."""
        return [Choice()]

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Start those VMs of the batch that were never started.

        One that was started and has ended is not started again: its shortfall is `spent`.
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
        """Every session alive with these tags; waits for a launch that is under way."""
        with suppress(OSError), self._lock_path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        vms = self._find_vms()
        if self._is_empty():
            with self._hold_lock(is_required=False):
                pass  # the last VM's folder went after its end was asked for: now the lock can go
        return [vm for vm in vms if tags.items() <= vm.tags.items()]

    def list_vms(self) -> list[VM]:
        """Every session of planapply's that this user has."""
        return self.find({})

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Ask keepers to end their VMs within a grace; asked again, or without a keeper, kill them.

        The folders of VMs that have ended by themselves are removed.
        """
        with self._hold_lock(is_required=False):
            processes = supervisor.find_processes()
            for id in ids:
                if id in processes and self._request_termination(id, processes[id]):
                    continue
                if id in processes:
                    supervisor.kill(id)
                shutil.rmtree(self._folder_of(id), ignore_errors=True)
        return ()  # with the lock held, none is too young to be seen

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Keep the user's tags in a file from now on; a VM that has ended needs none."""
        with self._hold_lock(is_required=False):
            for vm in self._find_vms():
                if vm.id in ids:
                    kept = {key: value for key, value in vm.tags.items() if key not in removed}
                    self._write_tags(vm.id, kept | dict(tags))

    def console(self, id: str, lines: int) -> str:
        """The end of the VM's log; kept until the VM is terminated, also if it ended by itself."""
        try:
            with (self._folder_of(id) / supervisor.LOG).open("rb") as file:
                return _read_tail(file, lines)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ProviderError(ErrorKind.REJECTED, f"the log can't be read: {error}") from error

    def secrets(self, id: str) -> str:
        """The key pair that its Dask process reads."""
        return "".join(path.read_text() for path in sorted(self._folder_of(id).glob("*.pem")))

    def _find_vms(self) -> list[VM]:
        vms = []
        for id, vm_processes in supervisor.find_processes().items():
            with suppress(ValueError):  # a hand-made environment
                vm = self._read_vm(
                    id, json.loads(vm_processes[0][1].get(supervisor.ENV_VM_FACTS, ""))
                )
                # Its folder goes last: it may have ended since its processes were seen.
                if self._folder_of(id).exists() or supervisor.is_alive(vm_processes):
                    vms.append(vm)
        return sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id))

    def _read_vm(self, id: str, facts: dict[str, Any]) -> VM:
        folder = self._folder_of(id)
        if (folder / supervisor.STOPPING).exists():
            facts["status"] = "stopping"
        with suppress(OSError):
            user_tags = json.loads((folder / USER_TAGS_FILE).read_text())
            facts["tags"] = user_tags | _own_tags(facts["tags"])
        return VM(**facts)

    def _folder_of(self, id: str) -> Path:
        # An id comes from a state, and what is in this folder is removed without further question.
        return self.folder / (id if re.fullmatch(r"vm-[\w.-]+", id, re.ASCII) else "vm-")

    def _remove_ended(
        self, request: LaunchRequest, missing: dict[int, str]
    ) -> ProviderError | None:
        """Take those out of `missing` that have ended; their folders go, for nobody knows them."""
        ended = {index: id for index, id in missing.items() if self._folder_of(id).exists()}
        if not ended:
            return None
        logs = [self.console(id, 20) for id in ended.values()]
        for index, id in ended.items():
            del missing[index]
            shutil.rmtree(self._folder_of(id), ignore_errors=True)
        names = ", ".join(request.names[index] for index in ended)
        return ProviderError(ErrorKind.TOKEN_SPENT, f"started, and ended at once: {names}", logs[0])

    def _request_termination(self, id: str, vm_processes: supervisor.VMProcesses) -> bool:
        """Whether the VM will end by itself, since its keeper was asked for the first time."""
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

    def _write_tags(self, id: str, tags: dict[str, str]) -> None:
        user_tags = {key: value for key, value in tags.items() if key not in _own_tags(tags)}
        path = self._folder_of(id) / USER_TAGS_FILE
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(user_tags))
            new.replace(path)
        except OSError as error:
            raise self._unwritable_error(error) from error

    @contextmanager
    def _hold_lock(self, *, is_required: bool = True) -> Iterator[int]:
        """Alone in this folder; whoever is next sees all that was started, also by one killed.

        A keeper inherits the descriptor, and closes it once it can be found by its environment.
        Without `is_required` the lock of a missing or full folder is done without: VMs must be endable.
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
            os.close(lock)  # its last holder has removed it

    def _unwritable_error(self, error: OSError) -> ProviderError:
        return ProviderError(
            ErrorKind.REJECTED,
            f"the folder of the provider `local` can't be written: {error}",
            "Set `folder` in the spec's [provider] to one of yours, on a disk that has room.",
        )


def _make_id(token: str, index: int) -> str:
    # From the token: when it is asked again, a VM that has ended is known by its folder.
    if not re.fullmatch(r"[\w.-]{1,64}", token, re.ASCII):
        raise ProviderError(ErrorKind.REJECTED, f"not a token: {token!r}")
    return f"vm-{token}-{index}"


def _own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """planapply's own, which never change."""
    return {k: v for k, v in tags.items() if k == "Name" or k.startswith(TAG_PREFIX)}


def _read_tail(file: BinaryIO, lines: int) -> str:
    """The last lines, read from the end in growing pieces: a log may be long."""
    size, chunk_size = file.seek(0, os.SEEK_END), 1 << 14
    while True:
        file.seek(max(0, size - chunk_size))
        data = file.read()
        if chunk_size >= size or data.count(b"\n") > lines:
            text = data.decode(errors="replace").splitlines(keepends=True)
            return "".join(text[-lines:]) if lines else ""
        chunk_size *= 4
