"""Requests per second under gunicorn, with and without the watch.

    python benchmarks/throughput.py [--applications shop,bare] [--threads 1,2,4,8] [--pairs 6] [--rounds 4]

Of the demo's shop those pages are asked for that have no bug; what the bare application of the other benchmarks adds is the
hardest case there is, a request that does next to nothing. A gunicorn with the watch and one without are up together, each with
one gthread worker, on a processor that wrk does not use where there are two. wrk asks them in short turns, because a machine is
faster at one time than at another; and they are started anew several times, because one process is faster than another that does
the same. What counts is the mean over these pairs of the median of their turns' ratios, which is given with its standard error.
benchmarks/results/throughput.json has the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import record
from instructions import names
from servers import Database
from servers import databases

HERE = Path(__file__).parent
SHOP = HERE.parent / "examples" / "leaky_shop"
#: What the watch may leave of the shop's throughput.
LEAST = 0.97
_START_SECONDS = 20.0
_PAIR = ("nothing", "sessionwatch")
#: How long wrk asks each time, and how long before that.
_SECONDS = 1
_WARM_UP = 1

#: Requests per second of both.
Turn: t.TypeAlias = "dict[str, float]"


class Application(t.NamedTuple):
    """An application that is served.

    :param module: where gunicorn finds it.
    :param asked: methods and paths that are asked for.
    :param prepare: called with the environment of its servers, to fill its database.
    """

    module: str
    asked: tuple[str, ...]
    prepare: t.Callable[[dict[str, str]], None]


def _stock_shelves(environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "--app", "shop", "init-db"]
    subprocess.run(command, cwd=SHOP, env=environ, stdout=subprocess.DEVNULL, check=True)


APPLICATIONS = {
    "shop": Application(
        "served:shop()", ("GET /", "GET /products", "GET /products/1", "POST /carts"), _stock_shelves
    ),
    "bare": Application("served:bare()", ("GET /one", "GET /ten"), lambda environ: None),
}


def main() -> int:
    """Print the throughput of both, and return 1 if the ratio is below the target."""
    options = _options()
    if shutil.which("wrk") is None:
        print("wrk asks for the pages and is not here; on Debian and Ubuntu it is the package 'wrk'")
        return 0
    rows: list[dict[str, t.Any]] = []
    results = {"about": record.about(["flask-sessionwatch", "gunicorn"]), "rows": rows}
    with databases([options.database]) as found:
        for database in found:
            for name in options.applications:
                for threads in map(int, options.threads):
                    rows += _measure(database, name, threads, options)
                    record.write("throughput", results)
    # What the turns differ by is no reason to say that it is broken.
    held = [row["ratio"] + row["error"] >= LEAST for row in rows if row["application"] == "shop"]
    if not held:
        print(f"target {LEAST}: not judged")
        return 0
    print(f"target {LEAST}: {'held' if all(held) else 'BROKEN'}")
    return 0 if all(held) else 1


def _measure(
    database: Database, name: str, threads: int, options: argparse.Namespace
) -> list[dict[str, t.Any]]:
    application = APPLICATIONS[name]
    turns: dict[str, list[list[Turn]]] = {asked: [] for asked in application.asked}
    for _ in range(options.pairs):
        with contextlib.ExitStack() as stack:
            ports = {
                each: stack.enter_context(_gunicorn(each, application, threads, database.create()))
                for each in _PAIR
            }
            for asked, pairs in turns.items():
                for port in ports.values():
                    _wait_for_page(port)
                    _ask(port, asked, threads, _WARM_UP)
                pairs.append([_take_turns(ports, asked, threads, number) for number in range(options.rounds)])
    return [{"application": name, **_row(asked, threads, pairs)} for asked, pairs in turns.items()]


def _take_turns(ports: dict[str, int], asked: str, threads: int, number: int) -> Turn:
    # Whoever comes second finds the machine warmer: they take turns in that, too.
    order = _PAIR if number % 2 else _PAIR[::-1]
    return {each: _ask(ports[each], asked, threads, _SECONDS) for each in order}


def _row(asked: str, threads: int, pairs: list[list[Turn]]) -> dict[str, t.Any]:
    ratios = [statistics.median(turn["sessionwatch"] / turn["nothing"] for turn in turns) for turns in pairs]
    row = {
        "threads": threads,
        "asked": asked,
        **{each: statistics.median(turn[each] for turns in pairs for turn in turns) for each in _PAIR},
        "ratio": statistics.fmean(ratios),
        "error": statistics.stdev(ratios) / math.sqrt(len(ratios)) if ratios[1:] else 0.0,
        "ratios": ratios,
    }
    print(
        f"{threads} threads {asked:15} {row['nothing']:8,.0f}/s  with the watch {row['sessionwatch']:8,.0f}/s"
        f"  ratio {row['ratio']:.3f} ± {row['error']:.3f}",
        flush=True,
    )
    return row


@contextlib.contextmanager
def _gunicorn(watcher: str, application: Application, threads: int, url: str) -> Iterator[int]:
    """Serve an application and give the port."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "BENCH_WATCHER": watcher, "BENCH_URL": url, "BENCH_FOLDER": folder}
        environ |= {"SHOP_DATABASE_URI": url, "SHOP_INSTANCE_PATH": folder}
        environ["SESSIONWATCH_TICK"] = "1.0"  # what is served for real is judged for real
        environ["SESSIONWATCH_ENABLED"] = str(int(watcher == "sessionwatch"))
        application.prepare(environ)
        command = [*_on(0), sys.executable, "-m", "gunicorn", "--chdir", str(HERE)]
        command += ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", str(threads)]
        command += ["--log-level", "warning", application.module]
        with subprocess.Popen(command, env=environ) as server:
            try:
                _wait_for(port, server)
                yield port
            finally:
                server.terminate()


def _on(processor: int) -> list[str]:
    """Begin a command that is to run on *processor* alone, where there are two to be told apart."""
    # Where there is taskset, there is this.
    can = shutil.which("taskset") is not None and {0, 1} <= os.sched_getaffinity(0)
    return ["taskset", "--cpu-list", str(processor)] if can else []


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError("gunicorn did not start; its log says why")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def _wait_for_page(port: int) -> None:
    """Wait until the worker has loaded its application: gunicorn listens before that."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
    ) as connection:
        connection.request("GET", "/")
        connection.getresponse().read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(port: int, asked: str, connections: int, seconds: int) -> float:
    """Let wrk ask for *seconds* and return the requests per second."""
    method, path = asked.split()
    command = [
        *_on(1),
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(connections),
        "--duration",
        f"{seconds}s",
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "{method}"')
        script.flush()
        command += ["--script", script.name, f"http://127.0.0.1:{port}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None or float(found[1]) == 0.0 or "Non-2xx" in done.stdout:
        raise RuntimeError(f"wrk got no proper answers:\n{done.stdout}")
    return float(found[1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--applications", type=names, default=list(APPLICATIONS), help=", ".join(APPLICATIONS)
    )
    parser.add_argument("--threads", type=names, default=["1", "2", "4", "8"], help="of each worker")
    parser.add_argument("--pairs", type=int, default=6, help="of servers, one after the other")
    parser.add_argument("--rounds", type=int, default=4, help="in which wrk asks each of them once")
    parser.add_argument("--database", default="postgresql")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
