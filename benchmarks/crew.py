"""One process of growth.py: serve requests on many threads, or on many greenlets, at once.

    python crew.py thread|greenlet WATCHER

Reads a number of threads per line and answers with the CPU seconds of a request.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] == "greenlet":
    from gevent import monkey

    monkey.patch_all()

import tempfile
import threading
import time

import flask
import workload
from watchers import WATCHERS

REQUESTS = 1_000
_MOST = 1_000


def main(watcher: str) -> None:
    """Answer lines until there are no more."""
    with tempfile.TemporaryDirectory(dir=workload.memory_folder(), ignore_cleanup_errors=True) as folder:
        # Nobody waits for a connection: it is the watch that is to be seen, not the pool.
        options = {"pool_size": 64, "max_overflow": _MOST}
        app = workload.create_app(folder, engine_options=options)
        settle = WATCHERS[watcher].attach(app)
        workload.fill(app)
        _serve(app, 8)
        print("ready", flush=True)
        for line in sys.stdin:
            settle()
            print(_serve(app, int(line)), flush=True)


def _serve(app: flask.Flask, size: int) -> float:
    """Serve requests on *size* threads and return the CPU seconds of one."""
    each = max(1, REQUESTS // size)
    start = threading.Barrier(size + 1)

    def work() -> None:
        start.wait()
        for _ in range(each):
            workload.serve(app, "one", 1)
            time.sleep(0)  # let the others in

    crew = [threading.Thread(target=work) for _ in range(size)]
    for thread in crew:
        thread.start()
    start.wait()
    began_at = time.process_time()
    for thread in crew:
        thread.join()
    return (time.process_time() - began_at) / (each * size)


if __name__ == "__main__":
    main(sys.argv[2])
