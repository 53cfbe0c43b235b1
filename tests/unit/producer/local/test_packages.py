"""What is installed is compared with what the package's metadata, and that of what it needs, asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from producer.local import doctor
from producer.local.packages import EXTRAS, Find, Package, conflicts, extras_in_use, installed, mending

OURS = Package(
    "1.0",
    [
        "numpy>=1.26",
        "mindone==0.5.0; extra == 'worker'",
        "mindspore==2.7.1; extra == 'worker' and python_version < '4'",
        "mindspore==9; extra == 'worker' and python_version < '3'",
        "datasets<5.1,>=4; extra == 'load'",
        "webdataset<2,>=1; extra == 'load'",
        "pytest; extra == 'dev'",
    ],
)
FITTING = {
    "ddim-fleet": OURS,
    "numpy": Package("1.26.4"),
    "mindspore": Package("2.7.1", ["numpy<2.0.0,>=1.20.0"]),
    "mindone": Package("0.5.0", ["numpy<2.0", "transformers[sentencepiece]==4.57.1"]),
    "transformers": Package("4.57.1", ["huggingface-hub<1.0", "sentencepiece>1; extra == 'sentencepiece'"]),
    "huggingface-hub": Package("0.36.2", ["not a requirement", "numpy"]),
    "sentencepiece": Package("2"),
}


def found_in(packages: dict[str, Package]) -> Find:
    return packages.get


def test_what_fits_together_is_no_news() -> None:
    """Extras that are not in use ask for nothing, nor do markers that do not hold."""
    assert conflicts(found_in(FITTING)) == []
    assert doctor.packages(found_in(FITTING)).verdict == "ok"
    assert conflicts(found_in({"ddim-fleet": OURS, "numpy": Package("2.4")})) == []


def test_loaders_that_took_numpy_and_the_hub_along_are_told_with_the_command() -> None:
    """Each package with who needs it otherwise; extras by what is installed of them."""
    broken = {
        **FITTING,
        "numpy": Package("2.4.6"),
        "huggingface-hub": Package("2.4.0"),
        "datasets": Package("5.2.0", ["huggingface-hub>=0.25"]),
    }
    finding = doctor.packages(found_in(broken))
    assert finding.verdict == "fail"
    assert finding.found == (
        "datasets is 5.2.0, ddim-fleet needs <5.1,>=4; huggingface-hub is 2.4.0, transformers 4.57.1 needs <1.0; "
        "numpy is 2.4.6, mindone 0.5.0 needs <2.0; numpy is 2.4.6, mindspore 2.7.1 needs <2.0.0,>=1.20.0"
    )
    assert finding.remedy.startswith("pip install 'ddim-fleet[worker,load]', in one command with")


def test_what_is_missing_is_a_conflict_unless_only_an_extra_brings_it() -> None:
    """A loader that nobody installed is none."""
    without = {name: package for name, package in FITTING.items() if name != "sentencepiece"}
    assert conflicts(found_in(without)) == []
    without = {name: package for name, package in FITTING.items() if name != "huggingface-hub"}
    assert [str(one) for one in conflicts(found_in(without))] == [
        "huggingface-hub is missing, transformers 4.57.1 needs <1.0"
    ]


def test_a_checkout_that_is_not_installed_says_that_nothing_can_be_compared() -> None:
    """It is no failure."""
    assert doctor.packages(found_in({})).verdict == "warn"
    assert mending(found_in({})) == "pip install ddim-fleet"


def test_the_extras_are_those_of_the_project() -> None:
    """The extra for loaders holds what reads a run's folder, in releases that stand beside a worker's."""
    text = (Path(__file__).parents[4] / "pyproject.toml").read_text()
    for extra, names in EXTRAS.items():
        listed = re.search(rf"^{extra} = \[(.*?)\]", text, re.M | re.S)
        assert listed is not None
        assert all(f'"{name}' in listed[1] for name in names)


@pytest.mark.skipif(installed("ddim-fleet") is None, reason="needs an installed package")
def test_what_the_tests_run_with_fits_together() -> None:
    """Or they would say nothing of what people have."""
    assert [str(one) for one in conflicts()] == []
    assert set(extras_in_use()) <= set(EXTRAS)
