"""Damage follows from the seed, and is damage."""

from __future__ import annotations

import json
import random

from tools.chaos.damage import damaged, hostile_json


def test_damage_follows_from_the_seed_and_seldom_leaves_all_as_it_was() -> None:
    """A fault that was found once must be found again; damage that does nothing finds none."""
    data = b'{"prompt": "a red leaf", "seed": 7}'
    first, again = ([damaged(data, rng) for rng in [random.Random(seed)] for _ in range(200)] for seed in (3, 3))
    assert first == again
    assert sum(one == data for one in first) < 20
    assert len(set(first)) > 100


def test_a_hostile_object_differs_in_one_field() -> None:
    """One that is missing, unknown, or holds what it must not; it is still JSON."""
    fields = {"prompt": "a red leaf", "seed": 7, "eta": 0.0}
    rng = random.Random(3)
    for _ in range(100):
        found = json.loads(hostile_json(fields, rng))
        assert len({name for name in {*fields, *found} if repr(fields.get(name)) != repr(found.get(name))}) <= 1
