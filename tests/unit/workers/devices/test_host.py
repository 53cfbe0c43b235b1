"""What a host's NPUs are seen to be, through executables that answer as ``npu-smi`` does, or do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddim_core.errors import HostError
from workers.__main__ import command
from workers.devices import host, npu_smi
from workers.devices.choose import choose_devices
from workers.devices.host import look_around
from workers.supervisor.health import npu_health

MAPPING = "NPU ID  Chip ID  Chip Logic ID  Chip Name\n"
REFUSED = "dcmi module initialize failed. ret is -8005"


@pytest.fixture
def device_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder in place of ``/dev``; the files of the driver that are no NPU are in it."""
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("davinci_manager", "devmm_svm", "hisi_hdc"):
        (folder / name).touch()
    monkeypatch.setattr(host, "DEVICE_FOLDER", folder)
    return folder


def answers(script: Path, **by_question: str) -> Path:
    """Have ``npu-smi`` answer some questions and refuse the rest; return the file that lists what it was asked."""
    asked = script.parent / "asked"
    cases = "".join(
        f"  '{question.replace('_', ' ')}') printf '%s' {json.dumps(text)} ;;\n"
        for question, text in by_question.items()
    )
    text = f'#!/bin/sh\necho "$*" >> {asked}\ncase "$*" in\n{cases}  *) echo "{REFUSED}" >&2; exit 248 ;;\nesac\n'
    script.write_text(text.replace("\\n", "\n").replace("\\t", "\t"))
    return asked


def table(*dies: tuple[int, int, str]) -> str:
    """Return the table of ``npu-smi info`` for cards of any number of dies."""
    rows = (f"| {card} Ascend910 | {state} | 90 40 0 / 0 |\n| {die} {die} | 0000:01:00.0 | 0 0 / 0 10 / 65536 |\n"
            for card, die, state in dies)  # fmt: skip
    return "".join(rows)


def mapping(*chips: tuple[int, int, int]) -> str:
    """Return what ``npu-smi info -m`` prints."""
    return MAPPING + "".join(f"{card} {die} {logic} Ascend910\n" for card, die, logic in chips)


def test_the_only_npu_is_served_though_npu_smi_refuses(fake_npu_smi: Path, device_folder: Path) -> None:
    """As for a user other than root in a container; a process asks for its only NPU as device 0."""
    answers(fake_npu_smi)
    (device_folder / "davinci5").touch()
    (device,) = choose_devices("npu")
    assert (device.label, device.environment.get("ASCEND_RT_VISIBLE_DEVICES")) == ("npu:0", None)
    assert look_around().trouble == f"npu-smi info -m must succeed, got exit code 248: {REFUSED}"


def test_the_only_npu_is_served_without_npu_smi(
    device_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its device file was mapped into the container, the tool was not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (device_folder / "davinci0").touch()
    assert [device.label for device in choose_devices("auto")] == ["npu:0"]


def test_npus_that_cannot_be_told_apart_are_refused_with_the_reason(fake_npu_smi: Path, device_folder: Path) -> None:
    """Both ways on are named."""
    answers(fake_npu_smi)
    for index in range(2):
        (device_folder / f"davinci{index}").touch()
    with pytest.raises(HostError, match=rf"{REFUSED}; without it the 2 NPUs davinci0, davinci1 cannot be told apart"):
        choose_devices("auto")


def test_a_refusing_npu_smi_without_a_device_file_says_both(fake_npu_smi: Path, device_folder: Path) -> None:
    """Neither ``auto`` nor ``npu`` goes on with the CPU in silence."""
    answers(fake_npu_smi)
    for text in ("auto", "npu", "npu:0"):
        with pytest.raises(HostError, match=rf"{REFUSED}; and there is no .*/davinciN, so no NPU was given"):
            choose_devices(text)


def test_an_npu_smi_that_lists_nothing_is_no_npu(fake_npu_smi: Path, device_folder: Path) -> None:
    """``auto`` is the CPU then; ``npu`` says what was found."""
    answers(fake_npu_smi, **{"info_-m": MAPPING})
    assert choose_devices("auto")[0].kind == "cpu"
    with pytest.raises(HostError, match="got none: npu-smi info -m must list an NPU with a logic id"):
        choose_devices("npu")


@pytest.mark.parametrize("unreadable", [{}, {"info": table((0, 0, "UNKNOWN"))}])
def test_the_only_npu_is_served_though_its_health_is_unknown(
    fake_npu_smi: Path, device_folder: Path, unreadable: dict[str, str]
) -> None:
    """Nothing is known against it."""
    answers(fake_npu_smi, **{"info_-m": mapping((0, 0, 0))}, **unreadable)
    assert [device.label for device in choose_devices("npu")] == ["npu:0"]


def test_where_one_is_known_to_be_healthy_an_unknown_one_is_passed_over(
    fake_npu_smi: Path, device_folder: Path
) -> None:
    """It answers for the others, so its silence says something."""
    listed = {"info_-m": mapping((0, 0, 0), (1, 0, 1)), "info": table((0, 0, "OK"), (1, 0, "UNKNOWN"))}
    answers(fake_npu_smi, **listed)
    assert [device.label for device in choose_devices("npu")] == ["npu:0"]


def test_a_card_of_two_dies_is_served_by_its_healthy_one(fake_npu_smi: Path, device_folder: Path) -> None:
    """Each die has a health of its own, as on the A3 and the 310P Duo."""
    listed = {"info_-m": mapping((4, 0, 0), (4, 1, 1)), "info": table((4, 0, "OK"), (4, 1, "Critical"))}
    answers(fake_npu_smi, **listed)
    assert [device.label for device in choose_devices("npu")] == ["npu:0"]
    assert npu_health() == {"npu:0": "OK", "npu:1": "Critical"}


def test_a_die_that_the_table_leaves_out_is_asked_for_by_itself(fake_npu_smi: Path, device_folder: Path) -> None:
    """By card and die where the card has two, and by card where it has one, as older versions want it."""
    dies = {"info_-t_health_-i_4_-c_1": "Health : Alarm", "info_-t_health_-i_4_-c_0": "Health : OK"}
    card = {"info_-t_health_-i_6": "Health : OK"}
    answers(fake_npu_smi, **{"info_-m": mapping((4, 0, 0), (4, 1, 1), (6, 0, 2))}, **dies, **card)
    assert npu_health() == {"npu:0": "OK", "npu:1": "Alarm", "npu:2": "OK"}


def test_nothing_is_asked_twice(fake_npu_smi: Path, device_folder: Path) -> None:
    """Eight NPUs take three questions."""
    listed = {
        "info_-m": mapping(*((card, 0, card) for card in range(8))),
        "info": table(*((card, 0, "OK") for card in range(8))),
    }
    asked = answers(fake_npu_smi, **listed)
    assert CliRunner().invoke(command, ["devices", "--check"]).exit_code == 0
    assert sorted(asked.read_text().split("\n")[:-1]) == ["info", "info -m", "info -t topo"]


def test_all_questions_together_have_one_limit(
    fake_npu_smi: Path, device_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mapping comes, then the tool hangs: sixteen dies must not take sixteen times the limit."""
    answers(fake_npu_smi, **{"info_-m": mapping(*((die // 2, die % 2, die) for die in range(16)))})
    fake_npu_smi.write_text(fake_npu_smi.read_text().replace('echo "dcmi', 'exec sleep 30; echo "dcmi'))
    monkeypatch.setattr(npu_smi.NpuSmi.__init__, "__defaults__", (0.5,))
    asked = fake_npu_smi.parent / "asked"
    assert len(choose_devices("npu")) == 16  # nothing is known against any
    assert asked.read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("healths", "code", "said"),
    [
        (("OK",), 0, "npu:0  Ascend910  OK"),
        (("Critical",), 2, "an NPU must be healthy to be used unasked, got npu:0 Critical"),
        (("Critical", "OK"), 0, "npu:0  Ascend910  Critical  not served unless named"),
        ((), 2, "must list an NPU with a logic id, got none"),
    ],
)
def test_the_check_passes_where_a_fit_npu_would_be_served(
    fake_npu_smi: Path, device_folder: Path, healths: tuple[str, ...], code: int, said: str
) -> None:
    """The start-up probe of a pod; without the option the CPU would do."""
    listed = {
        "info_-m": mapping(*((card, 0, card) for card, _ in enumerate(healths))),
        "info": table(*((card, 0, health) for card, health in enumerate(healths))),
    }
    answers(fake_npu_smi, **listed)
    done = CliRunner().invoke(command, ["devices", "--check"])
    assert said in done.output + str(done.exception)
    assert (done.exception.exit_code if isinstance(done.exception, HostError) else done.exit_code) == code


def test_devices_that_cannot_be_listed_end_with_the_reason(fake_npu_smi: Path, device_folder: Path) -> None:
    """It used to print nothing and succeed."""
    answers(fake_npu_smi)
    with pytest.raises(HostError, match=REFUSED):
        CliRunner().invoke(command, ["devices"], catch_exceptions=False)
    told = json.loads(CliRunner().invoke(command, ["devices", "--json"]).stdout)
    assert told["devices"] == [] and REFUSED in told["error"]
