"""The one thread that infers, so that callbacks, parameters and services never wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from calibnet_core.perception.mailbox import LatestSlot, take_any

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Takes the newest item of each mailbox and handles them together, until all are closed.

    Args:
        mailboxes: where items come from, made with one condition.
        handle: does the work for the items at hand, by their mailboxes, and calls each mailbox's
            `done()` itself, together with its counting; it must not raise.
    """

    def __init__(
        self,
        mailboxes: Sequence[LatestSlot[Item]],
        handle: Callable[[list[tuple[LatestSlot[Item], Item]]], None],
    ) -> None:
        self._mailboxes, self._handle = mailboxes, handle
        self._ended = threading.Condition()
        self._is_busy = False
        # A daemon: a hung device call must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="calibnet-worker", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the running items after the mailboxes were closed; True if it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def let_go_first(self, timeout_s: float) -> None:
        """Give way to it after an item was put: wait until that is done, but not for long.

        Nothing is waited for where it is busy with earlier items: their end may be far off.
        """
        with self._ended:
            if not self._is_busy:
                self._ended.wait_for(self._has_nothing_to_do, timeout_s)

    def _has_nothing_to_do(self) -> bool:
        return not any(mailbox.in_flight for mailbox in self._mailboxes)

    def _run(self) -> None:
        while not all(mailbox.closed for mailbox in self._mailboxes):
            if items := take_any(self._mailboxes, timeout_s=1.0):
                self._is_busy = True
                self._handle(items)
                with self._ended:
                    self._is_busy = False
                    self._ended.notify_all()
