"""Whatever is wrong with a request is said at once, with its place, its field, the rule and the value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ddim_core.contracts.request import Request
from ddim_core.errors import Fault, InputError, RequestFaults
from ddim_core.schedule import ScheduleConfig
from producer.inputs import read_rows
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import FAULTS_SHOWN, RequestChecker, checked

WriteFile = Callable[[str, str | bytes], str]


def check(model: Model, fields: dict[str, Any], *, typed: bool = True) -> Request:
    return RequestChecker(model, {}).check(Row("p.jsonl", 3, fields, typed))


def faults_of(model: Model, fields: dict[str, Any], *, typed: bool = True) -> list[str]:
    with pytest.raises(RequestFaults) as caught:
        check(model, fields, typed=typed)
    return [str(fault) for fault in caught.value.faults]


def test_a_request_is_completed_from_the_checkpoint(model: Model) -> None:
    """Workers have nothing to guess."""
    request = check(model, {"prompt": "a", "width": 32})
    assert (request.custom_id, request.height, request.width) == ("000000000", 64, 32)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "prompt must be given with shapes"),
        ({"prompt": "  "}, "prompt must not be blank"),
        ({"prompt": 7}, "prompt must be text, got 7"),
        ({"prompt": "x" * 10_001}, r"prompt must have at most 10000 characters, got 'x{76}\.\.\."),
        ({"prompt": "\ud800"}, r"prompt must be valid Unicode text, got '\\ud800'"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1, got 0"),
        ({"num_inference_steps": 2000}, "num_inference_steps must be a whole number from 1 to 1000, got 2000"),
        ({"num_inference_steps": 30.5}, r"num_inference_steps must be a whole number, got 30\.5"),
        ({"num_inference_steps": "30"}, "num_inference_steps must be a whole number, got '30'"),
        ({"num_inference_steps": True}, "num_inference_steps must be a whole number, got True"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number, got nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a finite number, got inf"),
        ({"guidance_scale": -1}, r"guidance_scale must be at least 0\.0, got -1"),
        ({"guidance_scale": 2e3}, r"guidance_scale must be at most 1000\.0, got 2000\.0"),
        ({"guidance_scale": "high"}, "guidance_scale must be a number, got 'high'"),
        ({"eta": 1.5}, r"eta must be at most 1\.0, got 1\.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**63}, "seed must be below 9223372036854775808, got 9223372036854775808"),
        ({"height": 66}, "height must be a multiple of 4 with shapes, got 66"),
        ({"width": 9000}, "width must be at most 8192, got 9000"),
        ({"custom_id": ""}, "custom_id must not be empty, got ''"),
        ({"metadata": {"label": [3]}}, r"metadata\.label must be text, a number or a flag, got \[3\]"),
        ({"metadata": "circle"}, "metadata must be an object of names and values, got 'circle'"),
        ({"scheduler": ["leading"]}, r"scheduler must be an object of names and values, got \['leading'\]"),
        (
            {"scheduler": {"timestep_spacing": "leding"}},
            r"scheduler\.timestep_spacing must be one of leading, trailing, linspace, quad, got 'leding'",
        ),
        ({"scheduler": {"spacing": 1}}, "scheduler parameters must be among num_train_timesteps, .*, got spacing.*"),
        (
            {"scheduler": {"step_offset": 1}},
            "scheduler parameters must be .*, got step_offset; did you mean steps_offset[?]",
        ),
        (
            {"scheduler": {"timestep_spacing": "quad"}},
            r"scheduler\.timestep_pairs must be visited with timestep_spacing=quad, got diffusers; give .*=visited, .*",
        ),
        (
            {
                "scheduler": {
                    "rescale_betas_zero_snr": True,
                    "prediction_type": "epsilon",
                    "timestep_spacing": "trailing",
                }
            },
            r"scheduler\.prediction_type must be v_prediction or sample where timestep 999 is visited, got epsilon: .*",
        ),
        (
            {"num_inference_step": 30},
            "a field must be one of prompt, .*, got 'num_inference_step'; did you mean num_inference_steps[?]",
        ),
        ({"zzz": 1}, "a field must be one of prompt, .*, invert, sweep, sweep_mode, lists, got 'zzz'"),
        (
            {"trace": {"frame": 3}},
            "trace must have no field but frames and steps, got 'frame'; did you mean frames[?]",
        ),
    ],
)
def test_a_fault_names_field_rule_and_value(model: Model, fields: dict[str, Any], fault: str) -> None:
    """A person can mend the line without reading our source."""
    given = fields if "prompt" in fields or not fields else {"prompt": "a", **fields}
    assert len(found := faults_of(model, given)) == 1
    assert re.fullmatch(rf"p\.jsonl:3: {fault}", found[0])


def test_all_faults_of_a_line_are_found(model: Model) -> None:
    """Mending one after another would take as many tries."""
    found = faults_of(model, {"promt": "a", "eta": 2, "seed": -1})
    assert [fault.split(" ")[1] for fault in found] == ["prompt", "seed", "eta", "a"]


def test_text_is_a_number_only_where_the_format_knows_no_numbers(model: Model) -> None:
    """CSV has only text; in JSON a text where a number belongs is a mistake."""
    assert check(model, {"prompt": "a", "seed": "3", "eta": "0.5"}, typed=False).seed == 3
    assert faults_of(model, {"prompt": "a", "seed": "x"}, typed=False) == [
        "p.jsonl:3: seed must be a whole number, got 'x'"
    ]
    assert faults_of(model, {"prompt": "a", "eta": "nan"}, typed=False) == [
        "p.jsonl:3: eta must be a finite number, got 'nan'"
    ]


def test_a_whole_float_is_a_whole_number(model: Model) -> None:
    """Tables with gaps hold their whole numbers as floats."""
    assert check(model, {"prompt": "a", "seed": 3.0}).seed == 3


def test_defaults_fill_what_a_row_leaves_out(model: Model) -> None:
    """A row's scheduler parameters go over the run's one by one."""
    checker = RequestChecker(model, {"eta": 0.5, "scheduler": {"steps_offset": 1, "timestep_spacing": "leading"}})
    request = checker.check(Row("p", 1, {"prompt": "a", "scheduler": {"timestep_spacing": "trailing"}}))
    assert request.eta == 0.5
    assert request.scheduler == {"steps_offset": 1, "timestep_spacing": "trailing"}


def test_a_bad_default_is_one_fault_and_not_one_a_line(model: Model) -> None:
    """It is found before a line is read."""
    with pytest.raises(RequestFaults, match=r"^the run's defaults: eta must be at most 1\.0, got 2\.0$"):
        RequestChecker(model, {"eta": 2.0})


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('{"prompt": "a", "custom_id": "x"}\n\n{"prompt": "b", "custom_id": "x"}', "got 'x', which line 1 has"),
        ('{"prompt": "a", "custom_id": "000000001"}\n\n{"prompt": "b"}', "got '000000001', which line 1 has"),
        ('{"prompt": "a"}\n\n{"prompt": "b", "custom_id": "000000000"}', "got '000000000', which line 1 has"),
    ],
)
def test_a_repeated_custom_id_names_both_lines(model: Model, write: WriteFile, lines: str, fault: str) -> None:
    """Two requests of one name would get the same noise; names that we fill in count."""
    path = write("p.jsonl", lines)
    with pytest.raises(RequestFaults, match=rf"^{path}:3: custom_id must be unique, {fault}$"):
        list(checked(read_rows(path), RequestChecker(model, {}), path))


def test_faults_of_all_lines_are_raised_in_order(model: Model, write: WriteFile) -> None:
    """Faults of reading and of meaning stand together."""
    path = write("p.jsonl", 'x\n{"prompt": "a"}\n{"prompt": ""}\n{"prompt": "a", "eta": 3, "seed": -1}\n')
    with pytest.raises(RequestFaults) as caught:
        list(checked(read_rows(path), RequestChecker(model, {}), path))
    assert [fault.line for fault in caught.value.faults] == [1, 3, 4, 4]


def test_a_schedule_that_requests_share_is_checked_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maths takes ten times as long as all else; a new eta alone makes none that could be impossible."""
    asked: list[Request] = []
    schedule = Request.schedule

    def counted(request: Request, base: ScheduleConfig) -> ScheduleConfig:
        asked.append(request)
        return schedule(request, base)

    monkeypatch.setattr(Request, "schedule", counted)
    checker = RequestChecker(model, {})
    for number in range(100):
        overrides = {"timestep_spacing": "trailing" if number % 2 else "leading"}
        checker.check(Row("p", number, {"prompt": "a", "eta": number / 100, "scheduler": overrides}))
    assert len(asked) == 3  # the defaults, and the two


def test_a_million_faults_are_counted_and_not_kept(model: Model) -> None:
    """A file of another kind must neither fill the memory nor the screen."""
    rows = (Fault("p", number, None, "must be mended") for number in range(1000))
    with pytest.raises(RequestFaults, match=r"\nand 980 more$") as caught:
        list(checked(rows, RequestChecker(model, {}), "p"))
    assert (len(caught.value.faults), caught.value.total) == (FAULTS_SHOWN, 1000)


def test_an_input_without_requests_is_refused(model: Model) -> None:
    """A run of nothing is a mistake with the file."""
    with pytest.raises(InputError, match=r"^p\.txt must hold at least one request, got none$"):
        list(checked(iter([]), RequestChecker(model, {}), "p.txt"))


def test_an_input_of_faults_alone_is_not_called_empty(model: Model) -> None:
    """The faults are what to mend."""
    with pytest.raises(RequestFaults):
        list(checked([Fault("p", 1, None, "x")], RequestChecker(model, {}), "p"))


@pytest.mark.parametrize("name", ["height", "width", "num_inference_steps", "seed", "guidance_scale"])
def test_a_number_that_lost_its_digits_is_one_fault_of_its_field(model: Model, name: str) -> None:
    """What is taken out of a row for its fault leaves nothing else to be missed or guessed."""
    (fault,) = faults_of(model, {"prompt": "a", name: 1e308})
    assert f": {name} must be " in fault
