"""A host that only submits runs needs no MindSpore: nothing outside ``ddim_core.sampling`` may load it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import ddim_core
import producer
import workers

HEAVY = ("mindspore", "mindone", "torch", "diffusers", "transformers")
HEAVY_FOR_HELP = ("celery", "kombu", "redis", "pyarrow", "obstore", "numpy", "pydantic")


def loaded(statement: str, names: tuple[str, ...]) -> list[str]:
    """Return which of ``names`` are loaded after a fresh interpreter ran ``statement``."""
    program = f"import sys\n{statement}\nprint(*(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def modules_without_mindspore() -> Iterator[str]:
    for package in (producer, ddim_core):
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith("ddim_core.sampling") and not module.name.endswith("__main__"):
                yield module.name


@pytest.mark.parametrize("package", ["producer", "ddim_core", "workers"])
def test_a_package_loads_nothing_heavy(package: str) -> None:
    """What its ``__init__`` imports, import-linter does not see."""
    assert loaded(f"import {package}", HEAVY) == []


def test_no_module_of_the_producer_or_the_core_loads_mindspore() -> None:
    """All of them at once, each named if it cannot be imported."""
    names = list(modules_without_mindspore())
    assert len(names) > 30
    assert loaded("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names), HEAVY) == []


def test_the_public_names_are_there() -> None:
    """They load only when they are asked for."""
    assert loaded("import producer", HEAVY_FOR_HELP) == []
    assert loaded("from producer import Client, Run, RunStatus\nassert Client.submit", HEAVY) == []
    with pytest.raises(AttributeError, match=r"^module 'producer' has no attribute 'Cleint'$"):
        _ = producer.Cleint


def test_help_waits_for_no_library() -> None:
    """A person who asks what there is gets an answer at once."""
    assert loaded("import producer.main as m\nassert m.exit_code_of(['--help']) == 0", HEAVY_FOR_HELP) == []


def test_the_workers_are_not_imported_by_the_producer() -> None:
    """They meet in the core alone."""
    assert workers.__name__ not in loaded(
        "import producer.commands.run, producer.local.doctor, producer.commands.worker", ("workers",)
    )
