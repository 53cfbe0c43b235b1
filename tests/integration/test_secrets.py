"""Known secrets, put wherever a fleet takes some, are looked for in everything that it prints, logs and writes."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ddim_core.broker_url import BROKER_FILE_VARIABLE, BROKER_VARIABLE
from ddim_core.storage.objects import ObjectStore
from producer import Client
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import Workers, wait_for
from tools.servers import RedisServer, free_port

BROKER, KEY, TOKEN = "broker-Secret/1", "storeKey+Secret/2", "session-Token3"
FORMS = (BROKER, "broker-Secret%2F1", KEY, "storeKey%2BSecret%2F2", TOKEN)
PROMPTS = "".join(
    json.dumps({"prompt": f"a star {n}", "num_inference_steps": 3, "height": 32, "width": 32}) + "\n" for n in range(12)
)


class Echo(http.server.BaseHTTPRequestHandler):
    """Refuses everything, and says what it was sent."""

    def refuse(self) -> None:
        """Answer as S3 does, with all headers in the message."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = " ".join(f"{name}={value}" for name, value in self.headers.items())
        body = f"<Error><Code>AccessDenied</Code><Message>no, you sent {sent}</Message></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = refuse  # noqa: N815 - the names of http.server

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def refusing_store() -> Iterator[str]:
    """Give the endpoint of a store that answers 403 and quotes the request."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def broker_url(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of a Redis that wants the password."""
    with redis_server.client() as client:
        client.config_set("requirepass", BROKER)
    return f"redis://:broker-Secret%2F1@127.0.0.1:{redis_server.port}/0"


@pytest.fixture
def command(fleet: FleetCommand, broker_url: str, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> FleetCommand:
    """Give the command line with all secrets in its environment."""
    monkeypatch.setenv(BROKER_VARIABLE, broker_url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    fleet.write("p.jsonl", PROMPTS)
    return fleet


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    """Give a function that starts a worker with its log at DEBUG; it is stopped when the test ends."""
    started: list[Workers] = []

    def start_one(broker: str, *options: str) -> Workers:
        started.append(
            Workers(broker, "sim:1:5", tmp_path / f"w{len(started)}.log", "--log-level", "DEBUG", "--debug", *options)
        )
        return started[-1]

    yield start_one
    for workers in started:
        workers.stop()


def assert_no_secret(text: str | bytes, where: str) -> None:
    """Fail if ``text`` holds a secret, in the form that URLs have or its own."""
    data = text.encode() if isinstance(text, str) else text
    for form in FORMS:
        assert form.encode() not in data, f"{form} in {where}:\n{data.decode(errors='replace')[-3000:]}"


def test_a_whole_run_leaves_no_secret_anywhere(
    command: FleetCommand, s3_url: str, broker_url: str, start: Callable[..., Workers]
) -> None:
    """Commands, logs at DEBUG, figures, Redis's keys, and every object of the run with its report."""
    port = free_port()
    workers = start(broker_url, "--metrics-port", str(port))
    workers.wait_ready(1)
    url = f"{s3_url}/run"
    said = [command("submit", "p.jsonl", "--out", url, "--images-per-chunk", "4", "--results")]
    assert said[0].returncode == 0, said[0].stderr
    assert Client().run(url).wait(timeout_s=120).images_made == 12
    for arguments in (["status", url, "--workers"], ["report", url], ["verify", url], ["failed", url], ["doctor"]):
        said.append(command(*arguments))
    said.append(command("status", url, "--workers", "--json"))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as figures:
        assert_no_secret(figures.read(), "the figures")
    for done in said:
        assert_no_secret(done.stdout + done.stderr, "a command")
    store = ObjectStore(url)
    paths = [path for path, _ in store.list("")]
    assert {"run.json", "manifest.json", "report.html"} <= set(paths)
    for path in paths:
        assert_no_secret(store.get(path), path)
    with redis.Redis.from_url(broker_url) as client:
        for key in client.scan_iter():
            assert_no_secret(key + (client.dump(key) or b""), "Redis")
    workers.stop()
    assert_no_secret(workers.text(), "the workers' log")
    assert "DEBUG" in workers.text()


@pytest.mark.parametrize("option", [[], ["--debug"]])
def test_a_store_that_refuses_shows_no_secret(
    command: FleetCommand, refusing_store: str, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    """Not even where it quotes what it was sent, and not in a traceback."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", refusing_store)
    for arguments in (
        ["submit", "p.jsonl", "--out", "s3://bucket/run"],
        ["submit", "s3://bucket/p.jsonl", "--out", "run"],
        ["status", "s3://bucket/run"],
        ["doctor", "--out", "s3://bucket/run"],
    ):
        done = command(*option, *arguments)
        assert done.returncode != 0
        assert "403 Forbidden" in done.stdout + done.stderr, arguments
        assert_no_secret(done.stdout + done.stderr, str(arguments))


def test_a_worker_whose_store_refuses_logs_no_secret(
    command: FleetCommand,
    s3_url: str,
    broker_url: str,
    refusing_store: str,
    start: Callable[..., Workers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its log at DEBUG has tracebacks."""
    url = f"{s3_url}/run"
    assert command("submit", "p.jsonl", "--out", url).returncode == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", refusing_store)
    workers = start(broker_url)
    wait_for(lambda: "403 Forbidden" in workers.text(), 60, workers.text)
    workers.stop()
    assert_no_secret(workers.text(), "the workers' log")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{wrong}@127.0.0.1:{port}/0",
        "redis://:{wrong}@127.0.0.1:1/0",
        "redis://:{wrong}@127.0.0.1:no/0",
        "amqp://user:{wrong}@127.0.0.1:{port}/0",
        "redis://127.0.0.1:{port}/0?password={wrong}",
        "redis://user:a/{wrong}@127.0.0.1:{port}/0",
        "redis://{wrong}@127.0.0.1:{port}/0",
        "redis://{wrong}:@127.0.0.1:{port}/0",
        "redis://:#{wrong}@127.0.0.1:{port}/0",
        "redis://:{wrong}",
        "sentinel://{wrong}@127.0.0.1:{port}/0",
    ],
)
def test_a_broker_that_refuses_or_is_not_there_shows_no_secret(
    command: FleetCommand, redis_server: RedisServer, start: Callable[..., Workers], url: str
) -> None:
    """In no command, with --debug or without, by option, and in no worker's log."""
    broker = url.format(wrong=BROKER.replace("/1", "-1"), port=redis_server.port)
    for arguments in (
        ["submit", "p.jsonl", "--out", "run", "--broker", broker],
        ["--debug", "submit", "p.jsonl", "--out", "run", f"--broker={broker}"],
        ["doctor", "--broker", broker],
        ["--debug", "status", "nothing-here", "--broker", broker],
    ):
        done = command(*arguments)
        assert done.returncode in (1, 2)
        assert "broker-Secret" not in done.stdout + done.stderr
    workers = start(broker)
    wait_for(lambda: workers.launcher.poll() is not None or "redis_lost" in workers.text(), 60, workers.text)
    workers.stop()
    assert "broker-Secret" not in workers.text()


def test_the_command_line_shows_the_colon_that_a_password_lacks(command: FleetCommand) -> None:
    """The form to write is no secret, and not hidden with those."""
    for arguments in (["doctor"], ["status"], ["submit", "p.jsonl", "--out", "run"]):
        done = command(*arguments, "--broker", "redis://broker-Secret@127.0.0.1:1/0")
        assert done.returncode == 1
        assert "a colon before a password alone, redis://:PASSWORD@HOST (for a user" in done.stderr
        assert "got 'redis://***@127.0.0.1:1/0'" in done.stderr and "broker-Secret" not in done.stderr


def test_a_run_on_this_machine_shows_no_secret_of_its_environment(command: FleetCommand) -> None:
    """Its own Redis has a password that nobody gave."""
    command.write("url", "redis://:broker-Secret%2F1@127.0.0.1:1/0")
    done = command("run", "p.jsonl", "--out", "local", "--devices", "sim:1:1")
    assert done.returncode == 0, done.stderr
    assert_no_secret(done.stdout + done.stderr, "the command")
    for path in (command.folder / "local").rglob("*"):
        if path.is_file():
            assert_no_secret(path.read_bytes(), str(path))


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{KEY}@bucket/run",
        f"s3:/key:{KEY}@bucket/run",
        f"https://key:{KEY}@host/run",
        f"s3://{KEY}@bucket/run",
    ],
)
def test_a_run_url_with_credentials_is_refused_before_anything_is_written(command: FleetCommand, url: str) -> None:
    """In every command that takes one; it would stand in messages, in logs and in Redis."""
    for arguments in (
        ["submit", "p.jsonl", "--out", url],
        ["--debug", "run", "p.jsonl", "--out", url],
        ["status", url],
        ["submit", url.replace(":/k", "://k"), "--out", "run"],
        ["report", url],
    ):
        done = command(*arguments)
        assert done.returncode == 1
        assert "must hold no credentials" in done.stderr
        assert_no_secret(done.stdout + done.stderr, str(arguments))
    assert command.names() == ["p.jsonl"]


def test_secrets_come_from_files(
    command: FleetCommand, broker_url: str, start: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For commands, workers and clients in Python alike."""
    file = command.write("broker", f"{broker_url}\n")
    monkeypatch.delenv(BROKER_VARIABLE)
    monkeypatch.setenv(BROKER_FILE_VARIABLE, str(file))
    workers = start("")
    workers.wait_ready(1)
    done = command("submit", "p.jsonl", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert Client().run("run").wait(timeout_s=120).images_made == 12
    workers.stop()
    assert_no_secret(workers.text() + done.stderr, "the workers' log")
