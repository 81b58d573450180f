"""Whether what is still to be loaded fits, by what the machine has left after each load."""

from __future__ import annotations

import pytest

from runtimes import sampler
from runtimes.errors import UserError
from runtimes.room import Room

MIB = 1 << 20


@pytest.fixture
def left(monkeypatch):
    """The machine has so many MiB left at each look; None: it does not tell."""

    def by(*available: int | None) -> None:
        looks = iter(available)

        def memory() -> dict[str, int]:
            mib = next(looks)
            return {} if mib is None else {"MemAvailable": mib * MIB}

        monkeypatch.setattr(sampler, "memory", memory)

    return by


def test_five_of_a_hundred_fit_into_five_hundred(left) -> None:
    left(500, 400, 300, 200, 100, 0)
    room = Room(4, 1)
    for _ in range(5):
        room.one_more()


def test_what_will_not_fit_is_told_after_the_first(left) -> None:
    left(700, 500)
    with pytest.raises(UserError) as caught:
        Room(4, 1).one_more()
    message = "4 networks and a twin do not fit into the 700 MiB that are available: one takes about 200"
    assert caught.value.message == message
    assert "--network dense --network sparse" in caught.value.hint


def test_a_large_one_after_a_small_one_is_seen(left) -> None:
    """10 and 390 MiB are 200 each: two more need 400, and 300 are left."""
    left(700, 690, 300)
    room = Room(4, 0)
    room.one_more()
    with pytest.raises(UserError, match=r"4 networks do not fit into the 700 MiB"):
        room.one_more()


def test_the_last_one_needs_no_room_for_another(left) -> None:
    left(500, 1)
    Room(1, 0).one_more()


def test_memory_that_others_gave_back_is_no_need(left) -> None:
    left(100, 150, 5)
    room = Room(2, 0)
    room.one_more()
    room.one_more()


@pytest.mark.parametrize("available", [(None, 5), (5, None)])
def test_a_machine_that_does_not_tell_is_not_judged(left, available) -> None:
    left(*available)
    Room(9, 9).one_more()
