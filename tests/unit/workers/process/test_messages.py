"""What a worker takes for a message."""

from __future__ import annotations

import base64
import json
import logging
import ssl

import pytest

from ddim_core.contracts.queue import FINISH_RUN_TASK, SAMPLE_CHUNK_TASK, ChunkMessage, FinishMessage
from workers.coordination.queue_view import named_chunk
from workers.process.tasks import make_app, register_tasks
from workers.process.transport import TRANSPORT, is_message
from workers.settings import Device, WorkerSettings

MESSAGE = ChunkMessage(run_url="file:///data/run", run_id="run-0001", chunk=3)
SETTINGS = WorkerSettings(device=Device(kind="sim", index=0), broker_url="redis://user:secret@127.0.0.1:1/0")
ENVELOPE = {
    "body": base64.b64encode(json.dumps([[], MESSAGE.model_dump(), {}]).encode()).decode(),
    "headers": {"task": SAMPLE_CHUNK_TASK, "id": "1"},
    "properties": {"delivery_info": {}, "delivery_tag": "t", "body_encoding": "base64"},
    "content-type": "application/json",
    "content-encoding": "utf-8",
}


def test_an_item_of_the_queue_is_a_message_only_with_all_that_kombu_needs() -> None:
    """Anything less would raise within its event loop."""
    assert is_message(ENVELOPE)
    for name in ("body", "headers", "properties"):
        assert not is_message({key: value for key, value in ENVELOPE.items() if key != name})
    for item in (None, [], "text", 5, {}, {**ENVELOPE, "headers": None}, {**ENVELOPE, "headers": {"task": 1}}):
        assert not is_message(item)


@pytest.mark.parametrize(
    "harm",
    [
        {"content-type": "application/x-python-serialize"},
        {"content-encoding": "utf-9"},
        {"properties": {**ENVELOPE["properties"], "body_encoding": "base65"}},
        {"body": None},
        {"body": "no base64"},
        {"body": base64.b64encode(b"[[], {").decode()},
        {"body": base64.b64encode(b"[" * 100_000).decode()},
        {"body": base64.b64encode(b"[]").decode()},
        {"body": base64.b64encode(b"[[], [], {}]").decode()},
    ],
)
def test_an_item_whose_arguments_cannot_be_read_is_no_message(harm: dict[str, object]) -> None:
    """Celery would end the worker for some of these, and log a traceback for the others."""
    assert not is_message({**ENVELOPE, **harm})


def test_the_chunk_of_a_waiting_message_is_read() -> None:
    """The reconciler must know what is queued."""
    assert named_chunk(json.dumps(ENVELOPE)) == ("run-0001", 3)


@pytest.mark.parametrize(
    "item",
    [
        "",
        "{",
        "[]",
        "null",
        pytest.param("[" * 100_000, id="deep"),
        '{"headers": {}}',
        json.dumps({**ENVELOPE, "body": "!"}),
    ],
)
def test_other_items_of_the_queue_name_no_chunk(item: str) -> None:
    """They are none of the reconciler's business."""
    assert named_chunk(item) is None
    finish = {**ENVELOPE, "headers": {"task": FINISH_RUN_TASK, "id": "1"}}
    assert named_chunk(json.dumps(finish)) is None


def test_a_task_hands_over_its_message() -> None:
    """Validated, as the keyword arguments say."""
    got: list[object] = []
    app = make_app(SETTINGS)
    register_tasks(app, got.append, got.append)
    app.tasks[SAMPLE_CHUNK_TASK](**MESSAGE.model_dump())
    app.tasks[FINISH_RUN_TASK](run_url="file:///data/run", run_id="run-0001")
    assert got == [MESSAGE, FinishMessage(run_url="file:///data/run", run_id="run-0001")]


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"chunk": -1}, "chunk", "greater than or equal to 0"),
        ({"run_id": "../../etc"}, "run_id", "match pattern"),
        ({"run_url": ""}, "run_url", "at least 1 character"),
        ({"version": 2}, "version", "should be 1"),
        ({"surprise": 1}, "surprise", "not permitted"),
    ],
)
def test_a_message_that_does_not_validate_is_dropped_with_its_fault(
    caplog: pytest.LogCaptureFixture, fields: dict[str, object], field: str, rule: str
) -> None:
    """The log says which field and why, and no exception leaves the task."""
    app = make_app(SETTINGS)
    register_tasks(app, lambda _: pytest.fail("must not be called"), lambda _: None)
    with caplog.at_level(logging.ERROR):
        app.tasks[SAMPLE_CHUNK_TASK](**{**MESSAGE.model_dump(), **fields})
    (record,) = caplog.records
    assert (vars(record)["action"], vars(record)["field"]) == ("message_refused", field)
    assert rule in vars(record)["rule"]


def test_the_app_takes_json_only_and_our_transport() -> None:
    """Pickle would let whoever reaches Redis run code; the transport drops what is no message."""
    app = make_app(SETTINGS)
    assert app.conf.accept_content == ["json"]
    assert app.conf.broker_transport == TRANSPORT
    assert app.conf.task_acks_late and not app.conf.worker_enable_remote_control


@pytest.mark.parametrize(
    ("query", "verified"), [("", True), ("?ssl_cert_reqs=required", True), ("?ssl_cert_reqs=none", False)]
)
def test_a_broker_with_tls_is_spoken_to_with_tls(query: str, verified: bool) -> None:
    """Also through our transport, whose name kombu does not know; and kombu alone would verify nobody."""
    settings = SETTINGS.model_copy(update={"broker_url": f"rediss://host{query}"})
    tls = make_app(settings).connection_for_read().ssl
    assert tls == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED if verified else ssl.CERT_NONE,
        "ssl_check_hostname": verified,
    }


def test_settings_do_not_show_the_broker() -> None:
    """Its URL may hold a password; whoever prints the settings must not print that."""
    assert "secret" not in repr(SETTINGS)
    assert WorkerSettings.model_validate_json(SETTINGS.model_dump_json()) == SETTINGS
