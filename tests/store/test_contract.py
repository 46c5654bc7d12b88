"""What every store does alike."""

import json
import os
import threading
import time
import typing as t

import pytest

from flask_sessionwatch.store import Store
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store.base import FINDING_SECONDS
from flask_sessionwatch.store.base import FINDINGS_KEPT
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.base import Report
from flask_sessionwatch.store.base import Sighted
from tests.rules.conftest import until
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker

HOSTILE = "</script>'; DROP TABLE findings; --\n\r\x00\x1b[31m \"\\{}' ﷽\udcff"


def only(store: Store) -> Sighted:
    (finding,) = store.findings()
    return finding


# Documents


def test_nothing_yet(store: Store) -> None:
    """An empty store has no workers, no documents and no findings."""
    assert [store.live(), store.documents(SCOPES), store.findings()] == [[], [], []]
    assert store.finding("f1") is None


def test_document(store: Store) -> None:
    """What a worker publishes is read as it was, with who published it and when."""
    mine, before = worker(), time.time()
    store.publish(mine, {LIVE: document(engines=[{"name": "default", "used": 1}])}, [])
    (published,) = store.live()
    assert (mine, mine.id) == (published.worker, published.worker.id)
    assert published.body == {"engines": [{"name": "default", "used": 1}]}
    assert before - 1 <= published.seen_at <= time.time() + 1


def test_worker_is_known_by_its_space(store: Store) -> None:
    """Whoever reads learns enough of a worker to see whether its process is still there."""
    store.publish(Worker.this(), {LIVE: document()}, [])
    (published,) = store.live()
    assert (Worker.this().space, Worker.this().birth) == (published.worker.space, published.worker.birth)


def test_document_is_replaced(store: Store) -> None:
    """A worker has one document of a kind: the latest."""
    mine = worker()
    for number in (1, 2, 2):
        store.publish(mine, {LIVE: document(number=number)}, [])
    assert [each.body for each in store.live()] == [{"number": 2}]


def test_kinds_are_apart(store: Store) -> None:
    """Documents of different kinds do not replace each other, and may be published apart."""
    mine = worker()
    store.publish(mine, {LIVE: document(a=1), SCOPES: document(b=1)}, [])
    store.publish(mine, {LIVE: document(a=2)}, [])
    assert [[each.body for each in store.documents(kind)] for kind in (LIVE, SCOPES)] == [
        [{"a": 2}],
        [{"b": 1}],
    ]


def test_workers_are_apart(store: Store) -> None:
    """Workers with the same number on other hosts, and later ones with the same number, are others."""
    first = worker()
    workers = [
        first,
        Worker("beta", first.pid, first.started_at),
        Worker("alpha", first.pid, first.started_at + 1),
    ]
    for each in workers:
        store.publish(each, {LIVE: document(host=each.host)}, [])
    assert {each.id for each in workers} == {each.worker.id for each in store.live()}


def test_silent_worker_vanishes(store: Store) -> None:
    """A document counts for its lifetime only."""
    silent, alive = worker(), worker()
    store.publish(silent, {LIVE: document(lifetime=0.05), SCOPES: document()}, [])
    store.publish(alive, {LIVE: document()}, [])
    until(lambda: [alive] == [each.worker for each in store.live()])
    assert [silent] == [each.worker for each in store.documents(SCOPES)]


def test_vanished_worker_comes_back(store: Store) -> None:
    """A worker that was silent for a while is there again once it speaks."""
    mine = worker()
    store.publish(mine, {LIVE: document(lifetime=0.05)}, [])
    until(lambda: not store.live())
    store.publish(mine, {LIVE: document()}, [])
    assert [mine] == [each.worker for each in store.live()]


@pytest.mark.skipif(not Worker.this().space, reason="processes cannot be told apart here")
def test_dead_worker_vanishes_at_once(store: Store) -> None:
    """A worker of this host whose process is over is not live, whatever it said last."""
    over = _process_that_is_over()
    store.publish(over, {LIVE: document(), SCOPES: document()}, [])
    assert ([], [over]) == (store.live(), [each.worker for each in store.documents(SCOPES)])


def _process_that_is_over() -> Worker:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, json.dumps(Worker.this().as_json()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, "rb") as said:
        return Worker.from_json(json.load(said))


def test_leaving(store: Store) -> None:
    """A worker that ends is live no more at once; what it counted stays."""
    mine, other = worker(), worker()
    for each in (mine, other):
        store.publish(each, {LIVE: document(), SCOPES: document(count=1)}, [report()])
    store.leave(mine)
    assert [other] == [each.worker for each in store.live()]
    assert len(store.documents(SCOPES)) == 2
    assert set(only(store).sightings) == {mine.id, other.id}
    store.leave(mine)


def test_many_workers(store: Store) -> None:
    """A hundred workers are read at once."""
    workers = [worker(f"host{number % 10}") for number in range(100)]
    for each in workers:
        store.publish(each, {LIVE: document(pid=each.pid)}, [report(count=each.pid)])
    assert {(each.worker, each.body["pid"]) for each in store.live()} == {
        (each, each.pid) for each in workers
    }
    assert {each.id: each.pid for each in workers} == {
        name: each.occurrences for name, each in only(store).sightings.items()
    }


# Findings


def test_finding(store: Store) -> None:
    """A finding is read as it was published, with what each worker says of it."""
    mine = worker()
    sent = report("f1", count=3, first=10.5, last=time.time(), known=True, site={"lineno": 4}, stack=[1, 2])
    assert store.publish(mine, {}, [sent]) == 1
    finding = only(store)
    assert (finding.fingerprint, finding.body) == ("f1", sent.body)
    assert {mine.id: sent.sighting} == finding.sightings
    assert finding == store.finding("f1")
    assert store.finding("f2") is None


def test_one_bug_is_one_finding(store: Store) -> None:
    """What two workers saw is one finding with two sightings; the latest body is kept."""
    first, second = worker(), worker()
    store.publish(first, {}, [report(count=2, message="Old.")])
    store.publish(second, {}, [report(count=5, message="New.", resolved=True)])
    finding = only(store)
    assert finding.body["message"] == "New."
    assert [finding.sightings[each.id].occurrences for each in (first, second)] == [2, 5]
    assert [finding.sightings[each.id].resolved for each in (first, second)] == [False, True]


def test_repeated_publication(store: Store) -> None:
    """Counts are what they are, however often they are published."""
    mine = worker()
    for count in (1, 2, 2, 2):
        assert store.publish(mine, {}, [report(count=count)]) == 1
    assert [each.occurrences for each in only(store).sightings.values()] == [2]


def test_counts_without_a_body(store: Store) -> None:
    """Counts may be published alone; the body stays."""
    mine = worker()
    store.publish(mine, {}, [report(message="Told.")])
    store.publish(mine, {}, [report(count=7)._replace(body=None)])
    finding = only(store)
    assert (finding.body["message"], finding.sightings[mine.id].occurrences) == ("Told.", 7)


def test_counts_whose_body_was_lost(store: Store) -> None:
    """Counts of a finding that nobody has described are not shown."""
    store.publish(worker(), {}, [report()._replace(body=None)])
    assert (store.findings(), store.finding("f1")) == ([], None)


def test_several_findings_at_once(store: Store) -> None:
    """One publication may carry many findings, and says how many there are."""
    assert store.publish(worker(), {}, [report(f"f{number}") for number in range(50)]) == 50
    assert store.publish(worker(), {}, [report("f0"), report("g")]) == 51
    assert {f"f{number}" for number in range(50)} | {"g"} == {each.fingerprint for each in store.findings()}


def test_hostile_content(store: Store) -> None:
    """Whatever a message, a name or a host contains is data."""
    mine = Worker(HOSTILE.replace("\udcff", ""), 1, 1.0)
    store.publish(mine, {LIVE: document(name=HOSTILE)}, [report(message=HOSTILE)])
    (published,) = store.live()
    assert (mine.id, HOSTILE) == (published.worker.id, published.body["name"])
    assert (HOSTILE, [mine.id]) == (only(store).body["message"], list(only(store).sightings))


# Bounds


def test_old_findings_are_dropped(store: Store) -> None:
    """A finding that was not seen for a week is forgotten; one that anybody saw since stays whole."""
    old = time.time() - FINDING_SECONDS - 60
    first, second = worker(), worker()
    store.publish(first, {}, [report("old", last=old), report("seen again", last=old)])
    store.publish(second, {}, [report("seen again")])
    store.prune()
    assert [("seen again", {first.id, second.id})] == [
        (each.fingerprint, set(each.sightings)) for each in store.findings()
    ]


def test_oldest_findings_make_room(store: Store) -> None:
    """Of too many findings those that were seen last the longest ago are dropped."""
    start = time.time() - 3600
    reports: list[Report] = [report(f"f{number}", last=start + number) for number in range(FINDINGS_KEPT + 5)]
    store.publish(worker(), {}, reports)
    store.prune()
    kept = {each.fingerprint for each in store.findings()}
    assert kept == {f"f{number}" for number in range(5, FINDINGS_KEPT + 5)}
    assert store.publish(worker(), {}, []) == FINDINGS_KEPT


def test_pruning_keeps_what_counts(store: Store) -> None:
    """What has its time yet is left alone."""
    mine = worker()
    store.publish(mine, {LIVE: document()}, [report()])
    store.prune()
    assert ([mine], ["f1"]) == (
        [each.worker for each in store.live()],
        [each.fingerprint for each in store.findings()],
    )


# Processes and threads


def test_use_after_closing(store: Store) -> None:
    """A closed store opens again when it is used."""
    store.close()
    store.publish(worker(), {LIVE: document()}, [])
    assert len(store.live()) == 1


def test_threads_take_turns(store: Store) -> None:
    """A store may be used by one thread after the other."""
    mine = worker()
    thread = threading.Thread(target=store.publish, args=(mine, {LIVE: document()}, []))
    thread.start()
    thread.join()
    assert [mine] == [each.worker for each in store.live()]


def test_child_process(store: Store) -> None:
    """A forked child publishes through the store it was born with, and its parent goes on with its own."""
    mine = worker()
    store.publish(mine, {LIVE: document()}, [])
    child = os.fork()
    if not child:
        os._exit(_status_of(lambda: store.publish(worker(), {LIVE: document()}, [report()]) == 1))
    assert os.waitpid(child, 0)[1] == 0
    store.publish(mine, {LIVE: document(again=True)}, [])
    assert {"again": True} in [each.body for each in store.live()]


def _status_of(succeeds: t.Callable[[], bool]) -> int:
    try:
        return 0 if succeeds() else 1
    except BaseException:
        return 2


def test_repr_names_the_kind(store: Store) -> None:
    """A store says what it is."""
    assert type(store).__name__ in repr(store)
