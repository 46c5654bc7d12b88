"""One bug is one finding: merged, told when due, bounded, resolved, and ignored where asked."""

import threading
import typing as t

import pytest

from flask_sessionwatch import Finding
from flask_sessionwatch import Site
from flask_sessionwatch.finding import Level
from flask_sessionwatch.finding import ScopeName
from flask_sessionwatch.report import dispatcher as dispatcher_module
from flask_sessionwatch.report.dispatcher import FINDINGS_KEPT
from flask_sessionwatch.report.dispatcher import QUEUE_KEPT
from flask_sessionwatch.report.dispatcher import Dispatcher
from flask_sessionwatch.report.dispatcher import Ignored


class Held:
    """Something that a finding is about: it is held until it ends."""

    ended_at: float | None = None


class Told:
    """A sink that remembers what it was told, and how often the bug had been seen by then."""

    def __init__(self, *, immediate: bool = True) -> None:
        self.immediate = immediate
        self.findings: list[Finding] = []
        self.counts: list[int] = []

    def __call__(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.counts.append(finding.count)


def finding(line: int = 1, level: Level = "warning", **changes: t.Any) -> Finding:
    """Make a finding; those on different lines are different bugs."""
    values: dict[str, t.Any] = {
        "code": "SW103",
        "rule": "long-checkout",
        "level": level,
        "message": "A fact.",
        "site": Site("/srv/shop/jobs/nightly.py", line, "run"),
        "stack": (),
        "scope": ScopeName("POST /import", "request"),
        "hint": "A hint.",
    }
    return Finding(**{**values, **changes})


class Desk:
    """A dispatcher with its sinks and the errors it has told of."""

    def __init__(self, *sinks: t.Callable[[Finding], None], ignore: t.Iterable[str] = ()) -> None:
        self.errors: list[str] = []
        self.dispatcher = Dispatcher(sinks, Ignored(ignore), self.errors.append)

    def report(self, *findings: Finding) -> None:
        for each in findings:
            self.dispatcher.report(each)


# One bug is one finding


def test_first_occurrence_is_told_at_once() -> None:
    """An immediate sink is told before the report returns."""
    told = Told()
    first = finding()
    Desk(told).report(first)
    assert [first] == told.findings


def test_told_at_powers_of_ten() -> None:
    """The 1st, 10th and 100th occurrence are told, and none between."""
    told = Told()
    Desk(told).report(*(finding() for _ in range(1000)))
    assert told.counts == [1, 10, 100, 1000]


def test_occurrences_are_merged() -> None:
    """The same bug is kept once, with its number, its first and its last time."""
    desk = Desk()
    first, last = finding(), finding(message="The latest fact.", details={"held_seconds": 2.0})
    desk.report(first, finding(), last)
    (kept,) = desk.dispatcher.findings
    assert kept is first
    assert kept.count == 3
    assert last.last_seen == kept.last_seen
    assert kept.message == "The latest fact."
    assert kept.details == {"held_seconds": 2.0}


def test_report_returns_what_is_kept() -> None:
    """Who reports learns which finding stands for the bug."""
    desk = Desk()
    first = finding()
    assert first is desk.dispatcher.report(first) is desk.dispatcher.report(finding())


def test_newest_last() -> None:
    """Different bugs are listed in the order in which they were first seen."""
    desk = Desk()
    desk.report(finding(3), finding(1), finding(2), finding(3))
    assert [each.site.lineno for each in desk.dispatcher.findings if each.site] == [3, 1, 2]


def test_findings_is_a_copy() -> None:
    """Changing the list that was handed out changes nothing inside."""
    desk = Desk()
    desk.report(finding())
    desk.dispatcher.findings.clear()
    assert len(desk.dispatcher.findings) == 1


def test_raised_level_is_told() -> None:
    """A bug that became worse is told again, at its new level."""
    told = Told()
    desk = Desk(told)
    desk.report(finding(level="info"), finding(level="info"), finding(level="error"))
    assert told.counts == [1, 3]
    assert told.findings[0].level == "error"


def test_lower_level_is_not_told() -> None:
    """A bug that was seen in a milder form keeps the worst level it had."""
    told = Told()
    desk = Desk(told)
    desk.report(finding(level="error"), finding(level="info"))
    assert told.counts == [1]
    assert told.findings[0].level == "error"


def test_occurrences_by_level() -> None:
    """Every occurrence is counted under its own code, rule and level, told or not."""
    desk = Desk()
    desk.report(finding(level="info"), finding(level="info"), finding(level="error"))
    rule = ("SW103", "long-checkout")
    assert {(*rule, "info"): 2, (*rule, "error"): 1} == desk.dispatcher.occurrences


def test_reports_of_many_threads_are_all_counted() -> None:
    """Threads that report at once lose no occurrence."""
    desk = Desk()
    threads = [
        threading.Thread(target=desk.report, args=[finding() for _ in range(250)], daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    (kept,) = desk.dispatcher.findings
    assert kept.count == 1000


# Resolved


def test_resolved_when_its_subject_has_ended() -> None:
    """A finding on something held is resolved, once, when that is held no more."""
    desk = Desk()
    held = Held()
    one = finding(subject=held)
    desk.report(one)
    assert desk.dispatcher.resolve() == []
    assert [one] == desk.dispatcher.open_findings()
    held.ended_at = 1.0
    assert [(one, held)] == desk.dispatcher.resolve()
    assert one.resolved
    assert desk.dispatcher.resolve() == []
    assert desk.dispatcher.open_findings() == []


def test_resolved_when_all_subjects_have_ended() -> None:
    """Two leaks by one line are one finding, which stays open until both are returned."""
    desk = Desk()
    first, second = Held(), Held()
    desk.report(finding(subject=first), finding(subject=second))
    second.ended_at = 1.0
    assert desk.dispatcher.resolve() == []
    first.ended_at = 2.0
    assert len(desk.dispatcher.resolve()) == 1


def test_finding_without_a_subject_stays() -> None:
    """What is over when it is found, such as a lost write, is never resolved."""
    desk = Desk()
    desk.report(finding())
    assert desk.dispatcher.resolve() == []
    assert not desk.dispatcher.findings[0].resolved


def test_reopened() -> None:
    """A bug that comes back after it was resolved is open again, as the same finding."""
    desk = Desk()
    first, again = Held(), Held()
    first.ended_at = 1.0
    one = finding(subject=first)
    desk.report(one)
    desk.dispatcher.resolve()
    desk.report(finding(subject=again))
    assert [one] == desk.dispatcher.open_findings()
    assert not one.resolved
    assert one.count == 2
    again.ended_at = 2.0
    assert [(one, again)] == desk.dispatcher.resolve()


def test_reopened_at_its_present_level() -> None:
    """A bug that comes back has the level it is seen at now, also a milder one."""
    desk = Desk()
    held = Held()
    held.ended_at = 1.0
    desk.report(finding(level="error", subject=held))
    desk.dispatcher.resolve()
    desk.report(finding(level="info"))
    assert desk.dispatcher.findings[0].level == "info"


# Bounded


def test_number_of_findings_is_bounded() -> None:
    """Beyond the bound the oldest finding makes room, and that is counted."""
    desk = Desk()
    desk.report(*map(finding, range(FINDINGS_KEPT + 5)))
    lines = [each.site.lineno for each in desk.dispatcher.findings if each.site]
    assert list(range(5, FINDINGS_KEPT + 5)) == lines
    assert desk.dispatcher.dropped == 5


def test_resolved_findings_make_room_first() -> None:
    """What is over gives way to what is still true."""
    desk = Desk()
    held = Held()
    held.ended_at = 1.0
    desk.report(finding(0), finding(1, subject=held), *map(finding, range(2, FINDINGS_KEPT)))
    desk.dispatcher.resolve()
    desk.report(finding(FINDINGS_KEPT))
    lines = [each.site.lineno for each in desk.dispatcher.findings if each.site]
    assert lines[:2] == [0, 2]


def test_dropped_finding_is_open_no_more() -> None:
    """A finding that was dropped is neither open nor resolved later, and what it was about is let go."""
    desk = Desk()
    held = Held()
    desk.report(finding(0, subject=held), *map(finding, range(1, FINDINGS_KEPT + 1)))
    assert desk.dispatcher.open_findings() == []
    held.ended_at = 1.0
    assert desk.dispatcher.resolve() == []


def test_dropped_findings_are_still_counted() -> None:
    """The number of occurrences does not fall when a finding is dropped."""
    desk = Desk()
    desk.report(*map(finding, range(FINDINGS_KEPT + 5)))
    assert sum(desk.dispatcher.occurrences.values()) == FINDINGS_KEPT + 5


def test_subjects_of_one_finding_do_not_pile_up() -> None:
    """A line that is told again and again keeps no record of what it has returned long ago."""
    desk = Desk()
    for _ in range(50):
        held = Held()
        held.ended_at = 1.0
        desk.report(finding(subject=held))
    assert len(desk.dispatcher.resolve()) == 1
    assert desk.dispatcher.open_findings() == []


def test_queue_of_a_slow_sink_is_bounded() -> None:
    """When nobody drains, the oldest finding in the queue is dropped, and that is counted."""
    slow = Told(immediate=False)
    desk = Desk(slow)
    desk.report(*map(finding, range(QUEUE_KEPT + 3)))
    desk.dispatcher.drain()
    assert len(slow.findings) == QUEUE_KEPT
    # Three of the queue, and beyond the bound on findings three of those.
    assert 3 + max(0, QUEUE_KEPT + 3 - FINDINGS_KEPT) == desk.dispatcher.dropped


# Sinks


def test_slow_sinks_wait() -> None:
    """A sink that is not marked immediate waits for the watchdog, and no request waits for it."""
    fast, slow = Told(), Told(immediate=False)
    desk = Desk(slow, fast)
    desk.report(finding())
    assert len(fast.findings) == 1
    assert slow.findings == []
    desk.dispatcher.drain()
    assert len(slow.findings) == 1
    assert len(fast.findings) == 1


def test_any_callable_is_a_sink() -> None:
    """A plain function is a sink, and a slow one unless it says otherwise."""
    told: list[Finding] = []
    desk = Desk(told.append)
    desk.report(finding())
    assert told == []
    desk.dispatcher.drain()
    assert len(told) == 1


def test_drained_once() -> None:
    """What was told to the slow sinks is not told again."""
    slow = Told(immediate=False)
    desk = Desk(slow)
    desk.report(finding(1), finding(2))
    desk.dispatcher.drain()
    desk.dispatcher.drain()
    assert len(slow.findings) == 2


@pytest.mark.parametrize("immediate", [True, False])
def test_sink_that_raises(immediate: bool) -> None:
    """An error in a sink is told of and reaches neither the other sinks nor who reports."""

    class Broken:
        def __call__(self, finding: Finding) -> None:
            raise ConnectionError("the alerting is away")

        def __repr__(self) -> str:
            return "Broken()"

    broken, before, after = Broken(), Told(immediate=immediate), Told(immediate=immediate)
    vars(broken)["immediate"] = immediate
    desk = Desk(before, broken, after)
    desk.report(finding())
    desk.dispatcher.drain()
    assert len(before.findings) == len(after.findings) == 1
    assert desk.errors == ["the sink Broken()"]


def test_sink_that_cannot_even_be_named() -> None:
    """A broken sink whose repr is broken too harms nobody."""

    class Hopeless:
        immediate = True

        def __call__(self, finding: Finding) -> None:
            raise ValueError

        def __repr__(self) -> str:
            raise ValueError

    told = Told()
    desk = Desk(Hopeless(), told)
    desk.report(finding())
    assert len(told.findings) == 1
    assert len(desk.errors) == 1


def test_sink_that_reports() -> None:
    """A sink that causes a finding itself does not lock itself out."""
    told = Told()
    desk = Desk()

    def echo(one: Finding) -> None:
        if one.site is not None and one.site.lineno == 1:
            desk.report(finding(2))

    echo.immediate = True  # type: ignore[attr-defined]
    desk.dispatcher.sinks = [echo, told]
    desk.report(finding(1))
    assert [each.site.lineno for each in told.findings if each.site] == [2, 1]


def test_without_sinks_nothing_waits() -> None:
    """Without a slow sink nothing is queued for one, and nothing dropped."""
    desk = Desk()
    desk.report(*map(finding, range(FINDINGS_KEPT)))
    assert desk.dispatcher.dropped == 0


def test_forget() -> None:
    """A child process begins without its parent's findings, counts and queue."""
    slow = Told(immediate=False)
    desk = Desk(slow)
    desk.report(*(finding(line, subject=Held()) for line in range(FINDINGS_KEPT + 1)))
    desk.dispatcher.forget()
    desk.dispatcher.drain()
    assert slow.findings == []
    assert desk.dispatcher.findings == []
    assert desk.dispatcher.open_findings() == []
    assert desk.dispatcher.occurrences == {}
    assert desk.dispatcher.dropped == 0


def test_forget_what_is_locked() -> None:
    """A child that was forked while another thread reported does not wait for that thread."""
    desk = Desk()

    class Forking(Finding):
        """Asked for while the dispatcher merges, as a fork may happen in the midst of it."""

        @property
        def fingerprint(self) -> str:
            desk.dispatcher.forget()
            desk.report(finding(2))
            return "forked"

    desk.report(Forking(**vars(finding(1))))
    assert [each.site.lineno for each in desk.dispatcher.findings if each.site] == [2, 1]


# Ignored


@pytest.mark.parametrize(
    "entry",
    [
        "SW103",
        "long-checkout",
        " SW103 ",
        "SW103:jobs/*",
        "SW103:jobs/nightly.py",
        "SW103:nightly.py",
        "SW103:*.py",
        "SW103:/srv/shop/*",
        "SW103:/srv/shop/jobs/nightly.py",
        "long-checkout:shop/*/nightly.py",
        "SW103: jobs/* ",
        "SW103@POST /import",
        "long-checkout@POST /import",
        "SW103@POST *",
        "SW103@*/import",
        "SW103 @ POST /import",
        "SW103:jobs/*@POST /import",
        "SW103:",
        "SW103@",
    ],
)
def test_ignored(entry: str) -> None:
    """Rules are ignored by code or name, everywhere, at a path, in a scope, or by patterns of both."""
    told = Told()
    desk = Desk(told, ignore=["SW999", entry])
    assert desk.dispatcher.report(finding()) is None
    assert told.findings == []
    assert desk.dispatcher.findings == []
    assert desk.dispatcher.occurrences == {}


@pytest.mark.parametrize(
    "entry",
    [
        "SW10",
        "SW1030",
        "sw103",
        "SW101",
        "checkout",
        "SW*",
        "SW103:carts/*",
        "SW103:jobs",
        "SW103:obs/*",
        "SW103@GET /import",
        "SW103@/import",
        "SW103@POST /import/",
        "SW103:jobs/*@GET /import",
        "SW103:carts/*@POST /import",
    ],
)
def test_not_ignored(entry: str) -> None:
    """An entry that does not match in all it says ignores nothing."""
    assert Desk(ignore=[entry]).dispatcher.report(finding()) is not None


@pytest.mark.parametrize(("entry", "ignored"), [("SW103", True), ("SW103:*", False), ("SW103:jobs/*", False)])
def test_ignore_without_a_site(entry: str, ignored: bool) -> None:
    """What has no line of the application matches no path."""
    assert ignored is Ignored([entry])(finding(site=None))


@pytest.mark.parametrize(("entry", "ignored"), [("SW103", True), ("SW103@POST *", False)])
def test_ignore_without_a_scope(entry: str, ignored: bool) -> None:
    """What belongs to no scope matches no scope's name."""
    assert ignored is Ignored([entry])(finding(scope=None))


@pytest.mark.parametrize("name", ["GET /<int:id>", "GET /[a-z]", "GET /*", "GET /a?b", "flask import-orders"])
def test_ignore_a_name_with_special_characters(name: str) -> None:
    """The name of a scope matches itself, also where it looks like a pattern."""
    assert Ignored([f"SW103@{name}"])(finding(scope=ScopeName(name, "request")))


def test_ignore_an_unbalanced_pattern() -> None:
    """A pattern that is none breaks nothing."""
    assert not Ignored(["SW103:jobs/[", "SW103@["])(finding())


def test_bounds_are_bounds() -> None:
    """Memory for findings and queue is limited to a number that a process can bear."""
    assert 0 < dispatcher_module.FINDINGS_KEPT <= 10_000
    assert 0 < dispatcher_module.QUEUE_KEPT <= 10_000


# Notes


class Noting(Told):
    """A sink that adds to each finding."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = 0

    def annotate(self, finding: Finding) -> None:
        self.noted += 1
        finding.details["noted"] = self.noted


def test_annotated_before_it_is_told() -> None:
    """What a sink adds to a finding is there for those before it, and for each occurrence anew."""
    told, noting = Told(), Noting()
    desk = Desk(told, noting)
    desk.report(finding(), finding())
    assert [each.details for each in told.findings] == [{"noted": 2}]
    assert noting.noted == 2
    assert len(told.findings) == 1


def test_annotation_that_fails() -> None:
    """A sink that stumbles over a note is told of the finding all the same, and so are the others."""

    class Broken(Told):
        def annotate(self, finding: Finding) -> None:
            raise KeyError("trace")

    told, broken = Told(), Broken()
    desk = Desk(broken, told)
    desk.report(finding())
    assert (len(told.findings), len(broken.findings), len(desk.errors)) == (1, 1, 1)
