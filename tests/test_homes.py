"""Paths with `~`, and users without a home or a name."""

import os
import pwd
from pathlib import Path

import pytest
from planapply_local.provider import LocalProvider
from store.samples import state

from planapply import catalog
from planapply.api.spec import load_spec
from planapply.cli import main
from planapply.model.diagnostics import PlanapplyError
from planapply.model.paths import expand_home
from planapply.model.spec import state_location
from planapply.ops.workspace import Workspace
from planapply.provider import ProviderError
from planapply.specfile import load
from planapply.store import lockinfo, open_store, tlsfiles
from planapply.store.files import save_copy

SPEC = '[cluster]\nname = "x"\n[workers.cpu]\ncount = 1\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without HOME and without an entry in the user database, as in a container."""

    def unknown(*_: object) -> pwd.struct_passwd:
        raise KeyError("uid not found")

    for name in [n for n in os.environ if n.startswith("XDG_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    return home


def test_home_is_expanded_everywhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "x.toml").write_text(SPEC + '[provider]\nfolder = "~/vms"\n')
    assert load_spec("~/x.toml").cluster.name == "x"
    assert Workspace.from_state("~/x.toml").store.location == str(home / "x.state.json")
    assert main(["validate", "--file=~/x.toml"]) == 0
    open_store("~/s.json").write(state(1))
    assert (home / "s.json").is_file()
    assert main(["state", "list", "--state=~/s.json"]) == 0
    assert LocalProvider("~/vms").folder == home / "vms"
    assert not list(Path().iterdir())
    capsys.readouterr()


@pytest.mark.parametrize("path", ["~nosuch/x.json", "~nosuch"])
def test_home_of_an_unknown_user(home: Path, path: str) -> None:
    for use in (
        lambda: expand_home(path),
        lambda: open_store(path),
        lambda: state_location(path, "x.toml"),
        lambda: load_spec(path),
        lambda: Workspace.from_state(path),
    ):
        with pytest.raises(PlanapplyError, match="there is no user 'nosuch'"):
            use()
    Path("x.toml").write_text(SPEC.replace('"x"', f'"x"\nstate = "{path}"'))
    for command in (["plan"], ["status"], ["destroy", "--auto-approve"]):
        assert main([*command, "-f", "x.toml"]) == 1
    assert [p.name for p in Path().iterdir()] == ["x.toml"]


def test_name_that_begins_with_a_tilde(home: Path) -> None:
    Path("~x.toml").write_text(SPEC)
    spec = load_spec("./~x.toml")
    assert open_store(spec.state_location("./~x.toml")).location == "./~x.state.json"


def test_user_without_home_gets_clear_errors(nobody: Path) -> None:
    for use, error in (
        (lambda: expand_home("~/x"), "your home folder is unknown"),
        (lambda: open_store("~/x"), "Set HOME"),
        (lambda: load_spec("~/x.toml"), "your home folder is unknown"),
        (lambda: tlsfiles.write("abc", state(1).tls), "XDG_CACHE_HOME"),  # type: ignore[arg-type]
    ):
        with pytest.raises(PlanapplyError, match=error):
            use()
    with pytest.raises(ProviderError, match="`folder` under"):
        LocalProvider()
    assert not list(Path().iterdir())


def test_user_without_home_can_use_absolute_paths(nobody: Path, tmp_path: Path) -> None:
    assert lockinfo._user() == str(os.getuid())
    store = open_store("s.json")
    store.write(state(1))
    tlsfiles.remove("abc")  # the last step of destroy
    assert LocalProvider(str(tmp_path / "vms")).folder == tmp_path / "vms"
    saved = save_copy(b"{}", f"planapply-{os.getpid()}", ["/nosuch"])
    assert saved is not None
    assert os.path.isabs(saved)
    os.unlink(saved)
    assert [p.name for p in Path().iterdir()] == ["s.json"]


def test_empty_home_is_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    with pytest.raises(PlanapplyError, match="your home folder is unknown"):
        expand_home("~/x.toml")


def test_folder_of_an_unknown_user_is_refused_by_validate(home: Path) -> None:
    Path("s.toml").write_text('[cluster]\nname = "x"\n[provider]\nfolder = "~no-such-user/x"\n')
    with pytest.raises(PlanapplyError) as raised:
        load(Path("s.toml"), catalog.load_plugin)
    (problem,) = raised.value.diagnostics
    assert (problem.summary, problem.detail) == (
        "`provider.folder` cannot be \"~no-such-user/x\": there is no user 'no-such-user'",
        "Write an absolute path.",
    )
