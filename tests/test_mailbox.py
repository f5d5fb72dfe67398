from __future__ import annotations

import threading

import pytest

from rtfusion.errors import EndOfStream
from rtfusion.mailbox import Closed, Mailbox, Policy, wait_any


def test_latest_drops_the_oldest_and_counts() -> None:
    box: Mailbox[int] = Mailbox(capacity=2, policy=Policy.LATEST)
    for i in range(5):
        box.put(i)
    assert [box.get(), box.get()] == [3, 4]
    assert box.dropped == 3


def test_block_loses_nothing_with_a_slow_reader() -> None:
    box: Mailbox[int] = Mailbox(capacity=2, policy=Policy.BLOCK)

    def write() -> None:
        for i in range(100):
            box.put(i)
        box.finish()

    writer = threading.Thread(target=write)
    writer.start()
    got = []
    with pytest.raises(EndOfStream):
        while True:
            got.append(box.get())
    writer.join(5)
    assert got == list(range(100))
    assert box.dropped == 0


def test_block_holds_the_writer_at_capacity() -> None:
    box: Mailbox[int] = Mailbox(capacity=1, policy=Policy.BLOCK)
    box.put(1)
    passed = threading.Event()
    writer = threading.Thread(target=lambda: (box.put(2), passed.set()))
    writer.start()
    assert not passed.wait(0.05)
    assert box.get() == 1
    assert passed.wait(5)
    writer.join(5)


def test_a_writer_that_found_it_full_waits_until_half_of_it_was_taken() -> None:
    box: Mailbox[int] = Mailbox(capacity=4, policy=Policy.BLOCK)
    for i in range(4):
        box.put(i)
    passed = threading.Event()
    writer = threading.Thread(target=lambda: (box.put(4), passed.set()))
    writer.start()
    assert box.get() == 0
    assert not passed.wait(0.05)
    assert box.get() == 1
    assert passed.wait(5)
    writer.join(5)
    assert [box.get() for _ in range(3)] == [2, 3, 4]


def test_what_is_awaited_comes_though_less_than_half_was_taken() -> None:
    box: Mailbox[int] = Mailbox(capacity=4, policy=Policy.BLOCK)
    for i in range(4):
        box.put(i)
    writer = threading.Thread(target=lambda: box.put(4))
    writer.start()
    assert box.get() == 0
    box.await_items(4, timeout_s=30.0)
    assert len(box) == 4
    writer.join(5)


def test_a_full_mailbox_can_be_tried_for_a_while() -> None:
    box: Mailbox[int] = Mailbox(capacity=1, policy=Policy.BLOCK)
    assert box.put(1, timeout_s=0.01)
    assert not box.put(2, timeout_s=0.01)
    assert box.get() == 1
    assert box.put(2, timeout_s=0.01)


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_close_wakes_both_ends(side: str) -> None:
    box: Mailbox[int] = Mailbox(capacity=1, policy=Policy.BLOCK)
    if side == "writer":
        box.put(1)
    outcome: list[type[BaseException]] = []

    def work() -> None:
        try:
            box.get() if side == "reader" else box.put(2)
        except Closed as closed:
            outcome.append(type(closed))

    thread = threading.Thread(target=work)
    thread.start()
    box.close()
    thread.join(5)
    assert outcome == [Closed]


def test_finish_lets_the_reader_drain() -> None:
    box: Mailbox[int] = Mailbox(capacity=4, policy=Policy.BLOCK)
    box.put(1)
    box.finish()
    assert box.get() == 1
    with pytest.raises(EndOfStream):
        box.get()


def test_fail_raises_after_what_was_put_before() -> None:
    box: Mailbox[int] = Mailbox(capacity=4, policy=Policy.BLOCK)
    box.put(1)
    box.fail(RuntimeError("broken camera"))
    assert box.get() == 1
    with pytest.raises(RuntimeError, match="broken camera"):
        box.get()


def test_get_returns_none_when_nothing_comes_in_time() -> None:
    box: Mailbox[int] = Mailbox(capacity=1, policy=Policy.BLOCK)
    assert box.get(timeout_s=0.01) is None


def test_wait_any_hears_either_mailbox() -> None:
    shared = threading.Condition()
    first: Mailbox[int] = Mailbox(capacity=1, policy=Policy.LATEST, condition=shared)
    second: Mailbox[int] = Mailbox(capacity=1, policy=Policy.LATEST, condition=shared)
    assert not wait_any(first, second, timeout_s=0.01)
    threading.Timer(0.02, lambda: second.put(1)).start()
    assert wait_any(first, second, timeout_s=5)
    assert len(second) == 1


def test_wait_any_refuses_mailboxes_of_two_conditions() -> None:
    first: Mailbox[int] = Mailbox(capacity=1, policy=Policy.LATEST)
    second: Mailbox[int] = Mailbox(capacity=1, policy=Policy.LATEST)
    with pytest.raises(ValueError, match="share a condition"):
        wait_any(first, second, timeout_s=0.01)


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        Mailbox(capacity=0, policy=Policy.BLOCK)


def test_items_are_awaited_and_stay() -> None:
    box: Mailbox[int] = Mailbox(capacity=4, policy=Policy.BLOCK)
    box.await_items(1, timeout_s=0.0)
    writer = threading.Thread(target=lambda: [box.put(i) for i in range(3)])
    writer.start()
    box.await_items(3, timeout_s=30.0)
    assert [box.get(timeout_s=0.0) for _ in range(3)] == [0, 1, 2]
    writer.join()
    box.finish()
    box.await_items(1, timeout_s=30.0)
