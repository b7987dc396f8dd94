"""The thread that infers."""

from __future__ import annotations

import threading
import time

import pytest

from calibnet_core.perception.mailbox import LatestSlot
from calibnet_ros.worker import Worker

TIMEOUT_S = 10.0


@pytest.fixture
def mailboxes():
    """Two that a worker may serve."""
    changed = threading.Condition()
    mailboxes = [LatestSlot(changed), LatestSlot(changed)]
    yield mailboxes
    for mailbox in mailboxes:
        mailbox.close()


class Handler:
    """Handles items one go at a time, when it is let; `handled` has what each call was given."""

    def __init__(self):
        self.started, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.handled = []

    def __call__(self, items):
        self.started.release()
        assert self.go_on.acquire(timeout=TIMEOUT_S)
        self.handled.append([item for _, item in items])
        for mailbox, _ in items:
            mailbox.done()


def test_the_newest_of_each_mailbox_is_handled_together_and_one_call_at_a_time(mailboxes):
    left, right = mailboxes
    handler = Handler()
    worker = Worker(mailboxes, handler)
    left.put("left 1")
    assert handler.started.acquire(timeout=TIMEOUT_S)
    assert left.put("left 2") is None
    assert left.put("left 3") == "left 2"  # replaced while the first is under work
    right.put("right 1")
    handler.go_on.release(2)
    assert handler.started.acquire(timeout=TIMEOUT_S)
    for mailbox in mailboxes:
        mailbox.close()
    assert worker.join(TIMEOUT_S)
    assert handler.handled == [["left 1"], ["left 3", "right 1"]]
    assert left.in_flight == right.in_flight == 0


def test_only_when_all_mailboxes_are_closed_does_an_idle_worker_end(mailboxes):
    worker = Worker(mailboxes, Handler())
    mailboxes[0].close()
    assert not worker.join(0.05)
    mailboxes[1].close()
    assert worker.join(TIMEOUT_S)


def test_a_mailbox_that_is_closed_early_does_not_keep_the_other_from_being_served(mailboxes):
    handler = Handler()
    worker = Worker(mailboxes, handler)
    mailboxes[0].close()
    for item in (1, 2):
        handler.go_on.release()
        mailboxes[1].put(item)
        assert handler.started.acquire(timeout=TIMEOUT_S)
    mailboxes[1].close()
    assert worker.join(TIMEOUT_S)
    assert handler.handled == [[1], [2]]


def test_the_running_item_is_finished_after_closing(mailboxes):
    handler = Handler()
    worker = Worker(mailboxes[:1], handler)
    mailboxes[0].put("last")
    assert handler.started.acquire(timeout=TIMEOUT_S)
    mailboxes[0].close()
    assert not worker.join(0.01)
    handler.go_on.release()
    assert worker.join(TIMEOUT_S)
    assert handler.handled == [["last"]]


def test_the_thread_does_not_keep_the_process_alive(mailboxes):
    Worker(mailboxes, Handler())
    threads = [thread for thread in threading.enumerate() if thread.name == "calibnet-worker"]
    assert threads
    assert all(thread.daemon for thread in threads)


def test_who_gives_way_goes_on_when_the_worker_is_done(mailboxes):
    handler = Handler()
    worker = Worker(mailboxes, handler)
    handler.go_on.release()
    mailboxes[0].put("item")
    began = time.monotonic()
    worker.let_go_first(TIMEOUT_S)
    assert handler.handled == [["item"]]
    assert time.monotonic() - began < TIMEOUT_S / 2


def test_nobody_gives_way_to_a_worker_that_has_nothing_or_earlier_items_to_do(mailboxes):
    handler = Handler()
    worker = Worker(mailboxes, handler)
    worker.let_go_first(TIMEOUT_S)
    mailboxes[0].put("earlier")
    assert handler.started.acquire(timeout=TIMEOUT_S)
    mailboxes[1].put("later")
    began = time.monotonic()
    worker.let_go_first(TIMEOUT_S)
    assert time.monotonic() - began < TIMEOUT_S / 2
    handler.go_on.release(2)


def test_giving_way_has_an_end(mailboxes):
    handler = Handler()
    worker = Worker(mailboxes, handler)
    mailboxes[0].put("long")
    worker.let_go_first(0.01)
    assert handler.handled == []
    handler.go_on.release()
