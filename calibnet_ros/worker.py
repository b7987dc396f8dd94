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
        # A daemon: a hung device call must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="calibnet-worker", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the running items after the mailboxes were closed; True if it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not all(mailbox.closed for mailbox in self._mailboxes):
            if items := take_any(self._mailboxes, timeout_s=1.0):
                self._handle(items)
