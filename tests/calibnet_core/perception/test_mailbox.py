from __future__ import annotations

import threading
import time

import pytest

from calibnet_core.perception.accounting import DropReason, FrameLedger
from calibnet_core.perception.mailbox import LatestSlot, take_any

PATIENCE_S = 10.0


def test_the_newest_item_replaces_the_waiting_one_and_the_replaced_one_is_handed_back() -> None:
    slot: LatestSlot[str] = LatestSlot()
    assert slot.put("old") is None
    assert slot.put("new") == "old"
    assert slot.waiting == 1
    assert slot.take(0.0) == "new"
    assert slot.waiting == 0


def test_taking_from_an_empty_slot_returns_none_when_the_time_is_up() -> None:
    slot: LatestSlot[int] = LatestSlot()
    start_s = time.monotonic()
    assert slot.take(0.02) is None
    assert time.monotonic() - start_s >= 0.015


def test_items_that_are_false_are_items() -> None:
    slot: LatestSlot[int] = LatestSlot()
    slot.put(0)
    assert slot.take(0.0) == 0


def test_none_is_refused() -> None:
    slot: LatestSlot[int | None] = LatestSlot()
    with pytest.raises(ValueError, match="cannot hold None"):
        slot.put(None)


def test_an_item_stays_in_flight_from_put_until_done() -> None:
    slot: LatestSlot[str] = LatestSlot()
    slot.put("first")
    assert slot.in_flight == 1
    slot.take(0.0)
    assert (slot.waiting, slot.in_flight) == (0, 1)
    slot.put("second")
    assert slot.in_flight == 2
    slot.done()
    assert slot.in_flight == 1
    slot.take(0.0)
    slot.done()
    assert slot.in_flight == 0


def test_done_without_an_open_item_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="once for each item taken"):
        LatestSlot[int]().done()


def test_close_hands_back_what_waits_and_later_puts_hand_back_their_own_item() -> None:
    slot: LatestSlot[str] = LatestSlot()
    slot.put("waiting")
    assert slot.close() == "waiting"
    assert slot.closed
    assert slot.put("late") == "late"
    assert slot.take(0.0) is None
    assert slot.in_flight == 0
    assert slot.close() is None


def test_a_taker_that_waits_for_ever_is_woken_by_put() -> None:
    slot: LatestSlot[str] = LatestSlot()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(slot.take()), daemon=True)
    taker.start()
    time.sleep(0.02)
    slot.put("item")
    taker.join(PATIENCE_S)
    assert taken == ["item"]


def test_every_taker_that_waits_for_ever_is_woken_by_close() -> None:
    slot: LatestSlot[str] = LatestSlot()
    taken: list[str | None] = []
    takers = [
        threading.Thread(target=lambda: taken.append(slot.take()), daemon=True) for _ in range(3)
    ]
    for taker in takers:
        taker.start()
    time.sleep(0.02)
    slot.close()
    for taker in takers:
        taker.join(PATIENCE_S)
    assert taken == [None, None, None]


def test_a_slow_taker_under_flood_sees_rising_items_and_ends_with_the_last() -> None:
    slot: LatestSlot[int] = LatestSlot()
    taken: list[int] = []
    last = 2000

    def work() -> None:
        while (item := slot.take(PATIENCE_S)) is not None:
            taken.append(item)
            time.sleep(0.0005)
            slot.done()
            if item == last:
                return

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    replaced = [slot.put(item) for item in range(1, last + 1)]
    worker.join(PATIENCE_S)

    assert taken == sorted(taken)
    assert taken[-1] == last
    let_go = [item for item in replaced if item is not None]
    assert sorted(taken + let_go) == list(range(1, last + 1))
    assert slot.in_flight == 0


def test_the_ledger_balances_at_every_moment_while_two_threads_work() -> None:
    ledger = FrameLedger()
    slot: LatestSlot[int] = LatestSlot()

    def work() -> None:
        while slot.take(PATIENCE_S) is not None:
            with ledger.atomically():
                ledger.published()
                slot.done()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()

    faults: list[AssertionError] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            with ledger.atomically():
                snapshot = ledger.snapshot(waiting_color=0, in_flight=slot.in_flight)
            try:
                snapshot.check()
            except AssertionError as fault:
                faults.append(fault)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for item in range(1, 3001):
        with ledger.atomically():
            ledger.color_received()
            ledger.paired()
            if slot.put(item) is not None:
                ledger.pair_dropped(DropReason.SUPERSEDED)
    with ledger.atomically():
        if slot.close() is not None:
            ledger.pair_dropped(DropReason.SHUTDOWN)
    worker.join(PATIENCE_S)
    is_over.set()
    watcher.join(PATIENCE_S)

    assert faults == []
    final = ledger.snapshot(waiting_color=0, in_flight=slot.in_flight)
    final.check()
    assert final.in_flight == 0
    assert final.received_color == 3000


def slots_of(number: int) -> list[LatestSlot[str]]:
    changed = threading.Condition()
    return [LatestSlot(changed) for _ in range(number)]


def test_taking_from_several_slots_gives_what_each_holds() -> None:
    front, _, side = slots = slots_of(3)
    front.put("old")
    front.put("f")
    side.put("s")
    assert take_any(slots, 0.0) == [(front, "f"), (side, "s")]
    assert [slot.waiting for slot in slots] == [0, 0, 0]
    assert [slot.in_flight for slot in slots] == [1, 0, 1]
    assert take_any(slots, 0.0) == []
    assert [slot.in_flight for slot in slots] == [1, 0, 1]


def test_taking_from_several_empty_slots_ends_when_the_time_is_up() -> None:
    start_s = time.monotonic()
    assert take_any(slots_of(2), 0.02) == []
    assert time.monotonic() - start_s >= 0.015


def test_a_slot_that_is_closed_does_not_keep_the_others_from_being_taken() -> None:
    closed, alive = slots = slots_of(2)
    closed.put("never taken")
    closed.close()
    assert take_any(slots, 0.0) == []
    alive.put("item")
    assert take_any(slots, 0.0) == [(alive, "item")]


def test_one_who_waits_for_several_slots_is_woken_by_any_and_by_the_last_that_closes() -> None:
    slots = slots_of(3)
    taken: list[list[str]] = []
    step = threading.Semaphore(0)

    def work() -> None:
        for _ in range(2):
            taken.append([item for _, item in take_any(slots)])
            step.release()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    time.sleep(0.02)
    slots[2].put("item")
    assert step.acquire(timeout=PATIENCE_S)
    assert taken == [["item"]]
    for slot in slots[:2]:
        slot.close()
    assert not step.acquire(timeout=0.02)
    slots[2].close()
    worker.join(PATIENCE_S)
    assert taken == [["item"], []]


def test_one_taker_of_three_floods_sees_the_newest_of_each_and_loses_none_unnoticed() -> None:
    changed = threading.Condition()
    slots: list[LatestSlot[int]] = [LatestSlot(changed) for _ in range(3)]
    last, is_over = 700, threading.Event()
    taken: dict[int, list[int]] = {id(slot): [] for slot in slots}
    let_go: dict[int, list[int]] = {id(slot): [] for slot in slots}

    def work() -> None:
        while not all(slot.closed for slot in slots):
            for slot, item in take_any(slots, PATIENCE_S):
                taken[id(slot)].append(item)
                slot.done()
            if all(items and items[-1] == last for items in taken.values()):
                is_over.set()
            time.sleep(0.0005)

    def flood(slot: LatestSlot[int]) -> None:
        for item in range(1, last + 1):
            if (replaced := slot.put(item)) is not None:
                let_go[id(slot)].append(replaced)

    worker = threading.Thread(target=work, daemon=True)
    cameras = [threading.Thread(target=flood, args=(slot,), daemon=True) for slot in slots]
    for thread in (worker, *cameras):
        thread.start()
    assert is_over.wait(PATIENCE_S)
    for slot in slots:
        slot.close()
    worker.join(PATIENCE_S)
    assert not worker.is_alive()
    for key, items in taken.items():
        assert items == sorted(items)
        assert sorted(items + let_go[key]) == list(range(1, last + 1))
    assert [slot.in_flight for slot in slots] == [0, 0, 0]
