"""A whole run over a Redis by TLS with the documentation's ACL user, and what is said when either does not fit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ddim_core.broker_url import BROKER_FILE_VARIABLE, BROKER_VARIABLE
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from tests.integration.fleet_command import FleetCommand
from tests.integration.tls_redis import PASSWORD, USER, TlsRedis, documented_rule
from tests.integration.worker_host import Workers, wait_for

PROMPTS = "".join(
    json.dumps({"prompt": f"a star {n}", "num_inference_steps": 3, "height": 32, "width": 32}) + "\n" for n in range(40)
)


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[TlsRedis]:
    """Give a running Redis that speaks TLS alone."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = TlsRedis(folder)
    yield server
    server.stop()


@pytest.fixture
def command(fleet: FleetCommand, tls_redis: TlsRedis, monkeypatch: pytest.MonkeyPatch) -> FleetCommand:
    """Give the command line, which finds the broker in a file."""
    monkeypatch.delenv(BROKER_VARIABLE, raising=False)
    monkeypatch.setenv(BROKER_FILE_VARIABLE, str(fleet.write("broker-url", f"{tls_redis.url()}\n")))
    fleet.write("p.jsonl", PROMPTS)
    return fleet


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    """Give a function that starts workers with a broker; they are stopped when the test ends."""
    started: list[Workers] = []

    def start_one(broker: str, *options: str) -> Workers:
        log = tmp_path / f"workers-{len(started)}.log"
        started.append(Workers(broker, "sim:2:5", log, "--log-level", "DEBUG", *options))
        return started[-1]

    yield start_one
    for workers in started:
        workers.stop()


def test_a_run_is_made_with_tls_and_the_documented_user(
    tls_redis: TlsRedis, command: FleetCommand, start: Callable[..., Workers]
) -> None:
    """All that workers and commands ask is allowed, also after a worker was killed; no file has the password."""
    workers = start(tls_redis.url())
    workers.wait_ready(2)
    done = command("submit", "p.jsonl", "--out", "run", "--images-per-chunk", "4", "--priority", "high")
    assert done.returncode == 0, done.stderr
    run = Client(tls_redis.url()).run(done.stdout.strip())
    wait_for(lambda: run.status().images_made > 0, 60, workers.text)
    assert command("pause", "run").returncode == 0
    assert command("continue", "run").returncode == 0
    victim = int(workers.text().split(" is ready, pid ")[1].split(",")[0])
    subprocess.run(["kill", "-9", str(victim)], check=True)
    assert run.wait(timeout_s=120).images_made == 40
    status = command("status", "run", "--workers")
    assert (status.returncode, "sim:0 on " in status.stdout) == (0, True)
    assert command("doctor").returncode in (0, 1)
    for path, _ in RunFolder(run.url).store.list(""):
        data = RunFolder(run.url).store.get(path)
        assert not any(form.encode() in data for form in (PASSWORD, "tls%2D", str(tls_redis.port))), path
    assert workers.stop() == 0
    log = workers.text()
    assert "NOPERM" not in log and "permission" not in log.lower(), log
    assert not any(form in log for form in (PASSWORD, "tls%2D"))


def test_the_documented_user_can_do_what_a_fleet_does_rarely(tls_redis: TlsRedis) -> None:
    """Restore what a dead worker had, move what nobody can read; and nothing that reaches beyond the program's keys."""
    with tls_redis.client() as client:
        client.rpush("ddim-fleet", "a", "b")
        client.lmove("ddim-fleet", "ddim-fleet", "LEFT", "RIGHT")
        client.hset("unacked", "tag", "x")
        client.transaction(lambda pipe: pipe.hget("unacked", "tag"), "unacked")
        assert client.hexists("ddim-fleet:runs", "x") is False
        assert client.time()[0] > 0 and client.pttl("ddim-fleet:missing:run") == -2
        assert client.smembers("_kombu.binding.ddim-fleet") == set()
        for forbidden in (
            ("get", "other"),
            ("flushall",),
            ("config", "get", "*"),
            ("keys", "*"),
            ("acl", "whoami"),
            ("client", "list"),
            ("publish", "ddim-fleet", "x"),
            ("eval", "return redis.call('get', 'other')", "0"),
        ):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't access at least one of the keys"):
                client.execute_command(*forbidden)


@pytest.mark.parametrize("fault", ["other-ca", "password", "plain", "missing-ca"])
def test_a_broker_that_does_not_fit_is_one_line_and_nothing_is_written(
    tls_redis: TlsRedis, fleet: FleetCommand, fault: str
) -> None:
    """An authority that did not sign, another password, no TLS: said without the password."""
    plain = f"redis://{USER}:secret-word@127.0.0.1:{tls_redis.port}/0"
    url, words = {
        "other-ca": (tls_redis.url(ca=tls_redis.other_ca), "certificate verify failed"),
        "password": (tls_redis.url(password="secret-word"), "the password is wrong or missing"),
        "plain": (plain, "write rediss:// if it speaks TLS there"),
        "missing-ca": (
            tls_redis.url(ca=fleet.folder / "none.pem"),
            "ssl_ca_certs in the broker's URL must name a file",
        ),
    }[fault]
    fleet.write("p.jsonl", PROMPTS)
    for arguments in (["submit", "p.jsonl", "--out", "run"], ["--debug", "submit", "p.jsonl", "--out", "run"]):
        done = fleet(*arguments, "--broker", url)
        assert done.returncode in (1, 2)
        *before, line = done.stderr.splitlines()
        assert words in line, line
        assert bool(before) == ("--debug" in arguments)
        for secret in (PASSWORD, "tls%2D", "secret-word"):
            assert secret not in done.stderr
    assert not (fleet.folder / "run").exists()


def test_a_missing_permission_is_one_line(tls_redis: TlsRedis, command: FleetCommand) -> None:
    """With what Redis says: the command that the user must be given."""
    (tls_redis.folder / "users.acl").write_text(f"user default off\nuser {USER} on >{PASSWORD} ~* -@all +ping\n")
    tls_redis.restart()
    done = command("submit", "p.jsonl", "--out", "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no permissions to run the 'set' command" in done.stderr
    assert "give its user the rule of docs/operations.md, Safety" in done.stderr
    assert not (command.folder / "run").exists()


def test_a_worker_without_a_permission_says_in_a_line_which(
    tls_redis: TlsRedis, tmp_path: Path, start: Callable[..., Workers]
) -> None:
    """Celery alone prints two tracebacks; the launcher starts the process again, for whoever mends the rule."""
    rule = documented_rule().replace("+@list", "")
    (tls_redis.folder / "users.acl").write_text(f"user default off\nuser {USER} on >{PASSWORD} {rule}\n")
    tls_redis.restart()
    workers = start(tls_redis.url(), "--log-level", "INFO")
    wait_for(lambda: "redis_refused" in workers.text(), 60, workers.text)
    assert "no permissions to run the 'llen' command" in workers.text()
    assert "Traceback" not in workers.text()


def test_a_worker_that_trusts_another_authority_waits_and_sends_nothing(
    tls_redis: TlsRedis, start: Callable[..., Workers]
) -> None:
    """Its operator sees why; the server sees no password."""
    workers = start(tls_redis.url(ca=tls_redis.other_ca))
    wait_for(lambda: "certificate verify failed" in workers.text(), 60, workers.text)
    with tls_redis.client() as client:
        assert list(client.scan_iter("ddim-fleet:worker:*")) == []
    assert not any(form in workers.text() for form in (PASSWORD, "tls%2D"))
