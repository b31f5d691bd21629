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
from planapply_local import vm as keeper
from planapply_local.start import start

USER_TAGS = "tags.json"  # in a VM's folder, once they were changed


class LocalProvider:
    """This machine, for one user; `folder` as in the settings."""

    limits = Limits(batch=100, parallel=2, settle=1.0, poll=0.2)

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
        with self._locked() as lock:
            vms = self._vms()
            batch = {vm.index: vm for vm in vms if vm.batch == request.token}
            if any(
                vm.tags.get(key) != request.tags.get(key)
                for vm in batch.values()
                for key in (TAG_NAMES, TAG_CONFIG)
            ):
                raise ProviderError(ErrorKind.SPENT, "the token was used for another request")
            missing = {
                place: _id(request.token, place)
                for place in range(len(request.names))
                if place not in batch
            }
            shortfall = self._ended(request, missing)
            try:
                for place, id in missing.items():
                    vm = start(request, place, id, self._vm_folder(id), vms, lock)
                    batch[place] = vm
                    vms.append(vm)
            except ProviderError as error:
                shortfall = error
        if shortfall is not None and not batch:
            raise shortfall
        return LaunchResult(tuple(batch[place] for place in sorted(batch)), shortfall)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Every session alive with these tags; waits for a launch that is under way."""
        with suppress(OSError), self._lock_path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        vms = self._vms()
        if self._is_bare():
            with self._locked(needed=False):
                pass  # the last VM's folder went after its end was asked for: now the lock can go
        return [vm for vm in vms if tags.items() <= vm.tags.items()]

    def list_vms(self) -> list[VM]:
        """Every session of planapply's that this user has."""
        return self.find({})

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Ask keepers to end their VMs within a grace; asked again, or without a keeper, kill them.

        The folders of VMs that have ended by themselves are removed.
        """
        with self._locked(needed=False):
            processes = keeper.processes()
            for id in ids:
                if id in processes and self._ask(id, processes[id]):
                    continue
                if id in processes:
                    keeper.kill(id)
                shutil.rmtree(self._vm_folder(id), ignore_errors=True)
        return ()  # with the lock held, none is too young to be seen

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Keep the user's tags in a file from now on; a VM that has ended needs none."""
        with self._locked(needed=False):
            for vm in self._vms():
                if vm.id in ids:
                    kept = {key: value for key, value in vm.tags.items() if key not in removed}
                    self._write_tags(vm.id, kept | dict(tags))

    def console(self, id: str, lines: int) -> str:
        """The end of the VM's log; kept until the VM is terminated, also if it ended by itself."""
        try:
            with (self._vm_folder(id) / keeper.LOG).open("rb") as file:
                return _tail(file, lines)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ProviderError(ErrorKind.REJECTED, f"the log can't be read: {error}") from error

    def secrets(self, id: str) -> str:
        """The key pair that its Dask process reads."""
        return "".join(path.read_text() for path in sorted(self._vm_folder(id).glob("*.pem")))

    def _vms(self) -> list[VM]:
        vms = []
        for id, members in keeper.processes().items():
            with suppress(ValueError):  # a hand-made environment
                vm = self._vm(id, json.loads(members[0][1].get(keeper.FACTS, "")))
                # Its folder goes last: it may have ended since its processes were seen.
                if self._vm_folder(id).exists() or keeper.lives(members):
                    vms.append(vm)
        return sorted(vms, key=lambda vm: (vm.launched_at or 0.0, vm.id))

    def _vm(self, id: str, facts: dict[str, Any]) -> VM:
        folder = self._vm_folder(id)
        if (folder / keeper.STOPPING).exists():
            facts["status"] = "stopping"
        with suppress(OSError):
            user = json.loads((folder / USER_TAGS).read_text())
            facts["tags"] = user | _identity(facts["tags"])
        return VM(**facts)

    def _vm_folder(self, id: str) -> Path:
        # An id comes from a state, and what is in this folder is removed without further question.
        return self.folder / (id if re.fullmatch(r"vm-[\w.-]+", id, re.ASCII) else "vm-")

    def _ended(self, request: LaunchRequest, missing: dict[int, str]) -> ProviderError | None:
        """Take those out of `missing` that have ended; their folders go, for nobody knows them."""
        ended = {place: id for place, id in missing.items() if self._vm_folder(id).exists()}
        if not ended:
            return None
        logs = [self.console(id, 20) for id in ended.values()]
        for place, id in ended.items():
            del missing[place]
            shutil.rmtree(self._vm_folder(id), ignore_errors=True)
        names = ", ".join(request.names[place] for place in ended)
        return ProviderError(ErrorKind.SPENT, f"started, and ended at once: {names}", logs[0])

    def _ask(self, id: str, members: keeper.Processes) -> bool:
        """Whether the VM will end by itself, since its keeper was asked for the first time."""
        import psutil

        keepers = [process for process, environment in members if keeper.KEEPER in environment]
        try:
            (self._vm_folder(id) / keeper.STOPPING).touch(mode=0o600, exist_ok=False)
            for process in keepers:
                process.terminate()
        except (OSError, psutil.Error):
            return False
        return bool(keepers)

    def _write_tags(self, id: str, tags: dict[str, str]) -> None:
        user = {key: value for key, value in tags.items() if key not in _identity(tags)}
        path = self._vm_folder(id) / USER_TAGS
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(user))
            new.replace(path)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _locked(self, *, needed: bool = True) -> Iterator[int]:
        """Alone in this folder; whoever is next sees all that was started, also by one killed.

        A keeper inherits the descriptor, and closes it once it can be found by its environment.
        Without `needed` the lock of a missing or full folder is done without: VMs must be endable.
        """
        lock = -1
        try:
            lock = self._lock(os.O_CREAT if needed else 0)
        except OSError as error:
            if needed:
                raise self._unwritable(error) from error
        try:
            yield lock
        finally:
            if lock >= 0:
                with suppress(OSError):
                    if self._is_bare():
                        self._lock_path.unlink()
                fcntl.flock(lock, fcntl.LOCK_UN)
                os.close(lock)

    def _is_bare(self) -> bool:
        try:
            return os.listdir(self.folder) == [self._lock_path.name]
        except OSError:
            return False

    def _lock(self, create: int) -> int:
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

    def _unwritable(self, error: OSError) -> ProviderError:
        return ProviderError(
            ErrorKind.REJECTED,
            f"the folder of the provider `local` can't be written: {error}",
            "Set `folder` in the spec's [provider] to one of yours, on a disk that has room.",
        )


def _id(token: str, place: int) -> str:
    # From the token: when it is asked again, a VM that has ended is known by its folder.
    if not re.fullmatch(r"[\w.-]{1,64}", token, re.ASCII):
        raise ProviderError(ErrorKind.REJECTED, f"not a token: {token!r}")
    return f"vm-{token}-{place}"


def _identity(tags: Mapping[str, str]) -> dict[str, str]:
    """planapply's own, which never change."""
    return {k: v for k, v in tags.items() if k == "Name" or k.startswith(TAG_PREFIX)}


def _tail(file: BinaryIO, lines: int) -> str:
    """The last lines, read from the end in growing pieces: a log may be long."""
    size, piece = file.seek(0, os.SEEK_END), 1 << 14
    while True:
        file.seek(max(0, size - piece))
        data = file.read()
        if piece >= size or data.count(b"\n") > lines:
            text = data.decode(errors="replace").splitlines(keepends=True)
            return "".join(text[-lines:]) if lines else ""
        piece *= 4
