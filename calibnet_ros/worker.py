"""The one thread that infers, so that callbacks, parameters and services never wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from calibnet_core.perception.mailbox import LatestSlot

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Takes items from a mailbox and handles them one at a time until the mailbox closes.

    Args:
        mailbox: where items come from.
        handle: does the work, and calls `mailbox.done()` itself, together with its counting; it
            must not raise.
    """

    def __init__(self, mailbox: LatestSlot[Item], handle: Callable[[Item], None]) -> None:
        self._mailbox, self._handle = mailbox, handle
        # A daemon: a hung device call must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="calibnet-worker", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the running item after the mailbox was closed; True if the thread has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._mailbox.closed:
            item = self._mailbox.take(timeout_s=1.0)
            if item is not None:
                self._handle(item)
