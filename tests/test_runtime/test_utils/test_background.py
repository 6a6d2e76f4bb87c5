"""Calls in a thread: order, bounds, errors and the end."""

import threading
import time
from contextlib import closing

import pytest

from multitask_runtime.utils.background import BackgroundCalls, read_ahead


def test_calls_run_in_order_beside_the_caller():
    seen, go_on = [], threading.Event()

    def call(number):
        go_on.wait(10)
        seen.append((number, threading.current_thread() is threading.main_thread()))

    with closing(BackgroundCalls(3)) as calls:
        for number in range(3):
            calls.submit(call, number)
        assert not seen
        go_on.set()
        calls.finish()
    assert seen == [(0, False), (1, False), (2, False)]


def test_a_call_too_many_waits_for_the_first():
    seen = []

    def call(number):
        time.sleep(0.02)
        seen.append(number)

    with closing(BackgroundCalls(2)) as calls:
        for number in range(5):
            calls.submit(call, number)
            assert len(seen) >= number - 1  # at most two are waiting or running
        calls.finish()
    assert seen == [0, 1, 2, 3, 4]


def test_errors_are_raised_where_the_result_is_taken():
    with closing(BackgroundCalls(2)) as calls:
        calls.submit(int, 'x')
        calls.submit(int, '7')
        with pytest.raises(ValueError, match='invalid literal'):
            calls.result()
        assert calls.result() == 7


def test_close_drops_what_waits():
    seen, started, go_on = [], threading.Event(), threading.Event()

    def first():
        started.set()
        go_on.wait(10)
        seen.append('first')

    calls = BackgroundCalls(5)
    calls.submit(first)
    calls.submit(seen.append, 'second')
    started.wait(10)
    threading.Timer(0.05, go_on.set).start()
    calls.close()
    assert seen == ['first']


def test_items_are_read_ahead_in_order_up_to_the_bound():
    produced = []

    def produce():
        for number in range(6):
            produced.append(number)
            yield number

    found = []
    for number in read_ahead(produce(), 2):
        found.append(number)
        assert len(produced) <= number + 3  # this one, and two ahead
    assert found == [0, 1, 2, 3, 4, 5]


def test_error_of_an_item_comes_after_those_before_it():
    def produce():
        yield 1
        yield 2
        raise ValueError('damaged')

    items = read_ahead(produce(), 3)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match='damaged'):
        next(items)


def test_reading_ahead_ends_with_its_reader():
    def produce():
        while True:
            yield threading.get_ident()

    before = threading.active_count()
    items = read_ahead(produce(), 2)
    assert next(items) != threading.get_ident()
    items.close()
    assert threading.active_count() == before
