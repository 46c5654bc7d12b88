"""Answers that are made before somebody asks, for as long as somebody asks again and again."""

import threading
import time
import typing as t

import pytest

from flask_sessionwatch.store import reader
from flask_sessionwatch.web import ready
from flask_sessionwatch.web.answers import Made
from flask_sessionwatch.web.ready import PLACES
from flask_sessionwatch.web.ready import Ready
from tests.rules.conftest import until

OFTEN = 0.01


class Kitchen:
    """Makes answers, each with its number."""

    def __init__(self) -> None:
        self.number = 0
        self.error: Exception | None = None
        #: Nothing is made while it is not set.
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> Made:
        self.number += 1
        number = self.number
        self.open.wait()
        if self.error is not None:
            raise self.error
        return Made(str(number).encode(), "", time.monotonic())


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "flask_sessionwatch.ready"]


@pytest.fixture
def make() -> Kitchen:
    return Kitchen()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Ready]:
    yield Ready()
    monkeypatch.setattr(ready, "WATCHED_SECONDS", 0.0)
    until(lambda: not threads())


def test_what_is_polled_is_made_in_the_background(answers: Ready, make: Kitchen) -> None:
    """What was asked for twice is made again and again though nobody waits for it, and handed out as it is."""
    answers("live", make, OFTEN)
    answers("live", make, OFTEN)
    until(lambda: make.number > 5)
    make.open.clear()
    number = make.number
    assert int(answers("live", make, OFTEN).body) in (number - 1, number)
    make.open.set()


def test_one_question_is_answered_once(
    answers: Ready, make: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one question alone nothing is made in the background."""
    monkeypatch.setattr(ready, "WATCHED_SECONDS", 0.3)
    answers("live", make, OFTEN)
    until(lambda: not threads())
    assert make.number == 1


def test_a_poller_goes_away(answers: Ready, make: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody asks any more, the thread ends and nothing is kept; the next poller begins anew."""
    monkeypatch.setattr(ready, "WATCHED_SECONDS", 0.3)
    for _ in range(2):
        began = make.number
        answers("live", make, OFTEN)
        answers("live", make, OFTEN)
        until(lambda began=began: make.number > began + 3)  # type: ignore[misc]
        until(lambda: not threads())
        assert answers._places == {}


def test_two_pollers_cost_one_reading(answers: Ready, make: Kitchen) -> None:
    """Those who wait for the same answer wait for the same making of it, and two pollers have no more made than one."""
    make.open.clear()
    asking = [threading.Thread(target=answers, args=("live", make, 60.0)) for _ in range(8)]
    for each in asking:
        each.start()
    until(lambda: make.number == 1)
    make.open.set()
    for each in asking:
        each.join()
    for _ in range(100):
        answers("live", make, 60.0)
    assert make.number == 1


def test_too_old(answers: Ready, make: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the background is late, whoever asks waits rather than be told what is old."""
    monkeypatch.setattr(ready, "LATE_SECONDS", 0.1)
    answers("live", make, OFTEN)
    answers("live", make, OFTEN)
    make.open.clear()
    until(lambda: int(answers._places["live"]._made[1].body) < make.number)  # type: ignore[index]
    stuck, began = make.number, time.monotonic()
    until(lambda: time.monotonic() > began + OFTEN + ready.LATE_SECONDS)
    told: list[Made] = []
    asking = threading.Thread(target=lambda: told.append(answers("live", make, OFTEN)))
    asking.start()
    asking.join(0.2)
    assert not told
    make.open.set()
    asking.join()
    assert int(told[0].body) >= stuck


def test_asked_twice_only(answers: Ready, make: Kitchen) -> None:
    """Between the first questions an answer serves for as long as a reading of the store does."""
    assert reader.FRESH_SECONDS == 0.5
    first = answers("rules", make, 60.0)
    assert answers("rules", make, 60.0) == first


def test_what_fails_is_told(answers: Ready, make: Kitchen) -> None:
    """An error of the background is everybody's who asks, for as long as it lasts."""
    answers("live", make, OFTEN)
    answers("live", make, OFTEN)
    make.error = ZeroDivisionError("gone fishing")
    until(lambda: answers._places["live"]._made is None)
    with pytest.raises(ZeroDivisionError, match="gone fishing"):
        answers("live", make, OFTEN)
    make.error = None
    assert answers("live", make, OFTEN).body


def test_places_are_few(answers: Ready, make: Kitchen) -> None:
    """Of too many different questions those are forgotten that were asked the longest ago."""
    for number in range(PLACES + 5):
        answers(number, make, 60.0)
    assert list(answers._places) == list(range(5, PLACES + 5))
    number = make.number
    answers(0, make, 60.0)
    assert make.number == number + 1
