"""The build hook: what it builds when, and that a failure never stands in the way of an installation."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddim_core.sampling.fused.sources import MARK, hash_in, sources_hash

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="hook")
def _hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, and a hook of a wheel that collects its warnings."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv(module.VARIABLE, raising=False)
    return module


def built_by(module: Any, target: str = "wheel") -> tuple[dict[str, Any], list[str]]:
    """Run the hook; return what it tells hatchling, and its warnings."""
    warnings: list[str] = []
    hook = SimpleNamespace(target_name=target, app=SimpleNamespace(display_warning=warnings.append))
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    module.CustomBuildHook.initialize(hook, "standard", data)
    return data, warnings


def test_nothing_is_built_or_fetched_unless_it_is_asked_for(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that only submits runs has no use for a compiler, nor has a source distribution."""
    monkeypatch.setattr(hook, "build", pytest.fail)
    assert built_by(hook) == ({"artifacts": [], "pure_python": True}, [])
    assert hook.CustomBuildHook.dependencies(SimpleNamespace(target_name="wheel")) == []
    monkeypatch.setenv(hook.VARIABLE, "native")
    assert built_by(hook, "sdist")[0]["artifacts"] == []
    assert hook.CustomBuildHook.dependencies(SimpleNamespace(target_name="sdist")) == []


@pytest.mark.parametrize("error", [OSError("no disk"), subprocess.TimeoutExpired("zig", 1)])
def test_a_failed_build_does_not_fail_an_installation(
    hook: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told; a wheel that others will install must have what it says, though."""

    def fail(kind: str) -> None:
        raise error

    monkeypatch.setattr(hook, "build", fail)
    monkeypatch.setenv(hook.VARIABLE, "native")
    data, [warning] = built_by(hook)
    assert data == {"artifacts": [], "pure_python": True}
    assert "MindSpore's own will run" in warning
    monkeypatch.setenv(hook.VARIABLE, "wheel")
    with pytest.raises(type(error)):
        built_by(hook)


def test_a_compiler_is_fetched_where_there_is_none(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for wheels always, because the system's would need its C library."""
    wheel = SimpleNamespace(target_name="wheel")
    for there, kind, needed in (
        ("g++", "native", []),
        (None, "native", [hook.COMPILER]),
        ("g++", "wheel", [hook.COMPILER]),
    ):
        monkeypatch.setattr(shutil, "which", lambda _, there=there: there)
        monkeypatch.setenv(hook.VARIABLE, kind)
        assert hook.CustomBuildHook.dependencies(wheel) == needed


def test_an_unknown_kind_is_refused(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error would go unseen otherwise, and cost two thirds of the speed."""
    monkeypatch.setenv(hook.VARIABLE, "nativ")
    with pytest.raises(ValueError, match="DDIM_FLEET_KERNELS must be off, native, wheel, got nativ"):
        hook.kind_asked_for()


def test_what_is_built_is_in_the_wheel_and_carries_its_sources(
    hook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command line gives the hash to the compiler; nothing else that lies there gets into the wheel."""

    def compile_to(command: list[str], **_: Any) -> Any:
        [digest] = [each.partition("=")[2] for each in command if each.startswith("-DDDIM_SOURCES=")]
        Path(command[command.index("-o") + 1]).write_bytes(MARK + digest.encode())
        return SimpleNamespace(returncode=0, stderr="")

    copy = tmp_path / hook.FUSED.relative_to(ROOT)
    shutil.copytree(hook.FUSED, copy, ignore=shutil.ignore_patterns("lib"))
    (copy / "lib").mkdir()
    (copy / "lib" / "fused-older.so").write_bytes(b"")
    monkeypatch.setattr(hook, "ROOT", tmp_path)
    monkeypatch.setattr(hook, "FUSED", copy)
    monkeypatch.setattr(subprocess, "run", compile_to)
    monkeypatch.setattr(shutil, "which", lambda _: "g++")
    monkeypatch.setattr(hook.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv(hook.VARIABLE, "native")
    data, warnings = built_by(hook)
    assert warnings == []
    assert (data["tag"], data["pure_python"]) == ("py3-none-linux_x86_64", False)
    assert [Path(each).name for each in data["artifacts"]] == ["fused-x86-64-v4.so", "fused-x86-64-v3.so"]
    assert {hash_in((tmp_path / each).read_bytes()) for each in data["artifacts"]} == {sources_hash()}
