"""A mailbox with a single place, where the newest item wins: latency cannot grow in it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestSlot(Generic[Item]):
    """Hands the newest item of a fast producer to a slow consumer. Thread-safe.

    A worker that takes from the slot is never more than one item behind, whatever the rate of the
    producer. An item the worker will never see is handed back by `put` or `close`, so that the
    owner can count it.

    `in_flight` counts the item in the slot and every item taken but not yet reported by `done`.
    Taking an item moves it between the two without changing the sum, so an owner who counts exits
    inside `FrameLedger.atomically` sees an exact number.

    Args:
        changed: shared by slots that one consumer takes from together, see `take_any`.
    """

    def __init__(self, changed: threading.Condition | None = None) -> None:
        self._changed = threading.Condition() if changed is None else changed
        # A deque of at most one item: unlike None, an empty deque is no item of any type.
        self._items: deque[Item] = deque()
        self._taken = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Items in the slot: 0 or 1."""
        with self._changed:
            return len(self._items)

    @property
    def in_flight(self) -> int:
        """Items in the slot plus items taken and not yet `done`."""
        with self._changed:
            return len(self._items) + self._taken

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._changed:
            return self._closed

    def put(self, item: Item) -> Item | None:
        """Place an item, replacing the one that waits.

        Args:
            item: anything but None, which `put` and `take` use to say that there is nothing.

        Returns:
            The item that nobody will take: the replaced one; `item` itself if the slot is closed;
            None if the slot was empty.

        Raises:
            ValueError: if `item` is None.
        """
        if item is None:
            raise ValueError("a slot cannot hold None; put the value to process")
        with self._changed:
            if self._closed:
                return item
            replaced = self._items.pop() if self._items else None
            self._items.append(item)
            self._changed.notify_all()
            return replaced

    def take(self, timeout_s: float | None = None) -> Item | None:
        """Take the item, waiting for one at most `timeout_s` seconds, or for ever if that is None.

        Report with `done` when its work ends, however it ends.

        Returns:
            The item, or None if the time ran out or the slot is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._taken_item()

    def done(self) -> None:
        """Report the end of work on one taken item.

        Raises:
            RuntimeError: if no taken item is open.
        """
        with self._changed:
            if self._taken == 0:
                raise RuntimeError("done() without an open item; call it once for each item taken")
            self._taken -= 1

    def close(self) -> Item | None:
        """Refuse further items and wake every taker. Closing twice is harmless.

        Returns:
            The item that was waiting, which nobody will take, or None.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._items.pop() if self._items else None

    def _taken_item(self) -> Item | None:
        if not self._items:
            return None
        self._taken += 1
        return self._items.pop()


def take_any(
    slots: Sequence[LatestSlot[Item]], timeout_s: float | None = None
) -> list[tuple[LatestSlot[Item], Item]]:
    """Take what every slot holds, waiting until one holds something.

    Args:
        slots: at least one, all made with the same condition.
        timeout_s: longest wait; None waits for ever.

    Returns:
        The slots that held an item, and the items; none if the time ran out or all are closed.
    """
    changed = slots[0]._changed
    with changed:
        changed.wait_for(
            lambda: any(slot._items for slot in slots) or all(slot._closed for slot in slots),
            timeout_s,
        )
        found = [(slot, slot._taken_item()) for slot in slots]
    return [(slot, item) for slot, item in found if item is not None]
