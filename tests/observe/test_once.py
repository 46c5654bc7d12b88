"""Attributes that are computed once, by as many threads as ask for them."""

import threading
import typing as t

from flask_sessionwatch.observe.once import Once


class Asked:
    """Has an attribute that is computed when it is asked for."""

    def __init__(self, compute: t.Callable[[], int]) -> None:
        self.compute = compute

    @Once
    def value(self) -> int:
        """A number."""
        return self.compute()


def test_computed_once() -> None:
    """What was computed is kept with the instance."""
    numbers = iter((1, 2))
    asked = Asked(lambda: next(numbers))
    assert (asked.value, asked.value) == (1, 1)
    assert Asked(lambda: next(numbers)).value == 2


def test_nobody_waits_for_another_thread() -> None:
    """While one thread computes it, others get theirs: a forked child has nobody who would let go of a lock."""
    inside, go_on = threading.Event(), threading.Event()

    def compute() -> int:
        inside.set()
        assert go_on.wait(10)
        return 1

    thread = threading.Thread(target=lambda: Asked(compute).value)
    thread.start()
    assert inside.wait(10)
    assert Asked(lambda: 2).value == 2
    go_on.set()
    thread.join()
