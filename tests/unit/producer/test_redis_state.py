"""What INFO says of a Redis, and what it answers, becomes a reason and a remedy."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from producer.redis_state import advice, explained, unfitness

GOOD = {"role": "master", "cluster_enabled": 0, "loading": 0, "maxmemory": 0, "maxmemory_policy": "noeviction"}


def test_a_redis_that_is_as_it_should_be_has_no_fault() -> None:
    """Nor has one that says nothing, as a service may cut its INFO short."""
    for info in (GOOD, {}):
        assert unfitness(info) is None and list(advice(info)) == []


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"role": "slave", "master_host": "a", "master_port": 1}, "it is a replica of a:1, which takes no writes"),
        ({"role": "slave"}, "it is a replica, which takes no writes"),
        ({"cluster_enabled": 1}, "it has cluster mode on"),
        ({"loading": 1, "loading_loaded_perc": 12.3}, "it is still loading its data from disk, 12% so far"),
    ],
)
def test_what_makes_a_redis_unfit_is_named(found: dict[str, Any], reason: str) -> None:
    """Before a run is written."""
    unfit = unfitness({**GOOD, **found})
    assert unfit is not None and unfit.reason == reason
    assert str(unfit).startswith(f"must be fit to hold a queue, got: {reason}; ")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"maxmemory_policy": "allkeys-lru"},
            "Redis will evict keys once it has a maxmemory (maxmemory-policy allkeys-lru)",
        ),
        ({"maxmemory_policy": "volatile-lru", "maxmemory": 10}, "Redis evicts keys when memory is short"),
        ({"maxmemory": 10_000_000, "used_memory": 9_500_000}, "Redis is nearly full: 9.5 of 10.0 MB (maxmemory)"),
    ],
)
def test_what_will_lose_work_is_advice(found: dict[str, Any], said: str) -> None:
    """With what mends it."""
    (one,) = advice({**GOOD, **found})
    assert one.found.startswith(said) and one.remedy


@pytest.mark.parametrize(
    ("answer", "url", "said"),
    [
        (redis.exceptions.ReadOnlyError("You can't"), "redis://h", "got: it is a replica, which takes no"),
        (redis.ResponseError("@1: -OOM command not allowed"), "redis://h", "it is full: its maxmemory is used up"),
        (redis.ResponseError("MISCONF Redis is configured"), "redis://h", "it cannot save to its disk; mend that"),
        (redis.ConnectionError("max number of clients reached"), "redis://h", "as many clients as it takes; raise its"),
        (redis.exceptions.InvalidResponse("Protocol Error: b'HTTP'"), "redis://h", "answers there is no Redis; name"),
        (redis.ConnectionError("[SSL: WRONG_VERSION_NUMBER] w"), "rediss://h", "it speaks no TLS there; write redis://"),
        (redis.ConnectionError("Connection closed by server."), "redis://h", "closed by server; write rediss://"),
        (redis.ConnectionError("Connection refused\nand more"), "redis://h", "got: Connection refused; start it"),
        (redis.AuthenticationError("x"), "redis://h", "wrong or missing; write redis://:PASSWORD@HOST, or with a user"),
        (redis.AuthenticationError("x"), "redis://:p@h", "HOST, with %25 for a % in it"),
        (redis.exceptions.NoPermissionError("may not 'get'"), "redis://h", "may not 'get'; give its user the rule of"),
    ],
)  # fmt: skip
def test_an_answer_becomes_a_reason_and_a_remedy(answer: Exception, url: str, said: str) -> None:
    """In a line, and not in the words of the protocol."""
    line = str(explained(answer, url))
    assert said in line and "\n" not in line
