"""The thread that infers."""

from __future__ import annotations

import threading

import pytest

from calibnet_core.perception.mailbox import LatestSlot
from calibnet_ros.worker import Worker

TIMEOUT_S = 10.0


@pytest.fixture
def mailbox():
    mailbox = LatestSlot()
    yield mailbox
    mailbox.close()


def test_items_are_handled_one_at_a_time_and_the_newest_wins(mailbox):
    started, go_on, handled = threading.Semaphore(0), threading.Semaphore(0), []

    def handle(item):
        started.release()
        assert go_on.acquire(timeout=TIMEOUT_S)
        handled.append(item)
        mailbox.done()

    worker = Worker(mailbox, handle)
    mailbox.put(1)
    assert started.acquire(timeout=TIMEOUT_S)
    assert mailbox.put(2) is None
    assert mailbox.put(3) == 2  # replaced while the first is under work
    go_on.release(2)
    assert started.acquire(timeout=TIMEOUT_S)
    mailbox.close()
    assert worker.join(TIMEOUT_S)
    assert handled == [1, 3]


def test_closing_the_mailbox_ends_an_idle_worker(mailbox):
    worker = Worker(mailbox, lambda item: None)
    assert not worker.join(0.01)
    mailbox.close()
    assert worker.join(TIMEOUT_S)


def test_the_running_item_is_finished_after_closing(mailbox):
    started, go_on, handled = threading.Event(), threading.Event(), []

    def handle(item):
        started.set()
        go_on.wait(TIMEOUT_S)
        handled.append(item)
        mailbox.done()

    worker = Worker(mailbox, handle)
    mailbox.put("last")
    assert started.wait(TIMEOUT_S)
    mailbox.close()
    assert not worker.join(0.01)
    go_on.set()
    assert worker.join(TIMEOUT_S)
    assert handled == ["last"]


def test_the_thread_does_not_keep_the_process_alive(mailbox):
    Worker(mailbox, lambda item: None)
    threads = [thread for thread in threading.enumerate() if thread.name == "calibnet-worker"]
    assert threads
    assert all(thread.daemon for thread in threads)
