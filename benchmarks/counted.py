"""One process of the benchmark, to be run under callgrind: count the instructions of requests.

    python counted.py WATCHER REQUESTS CASE...

For each case it writes down two stretches: what REQUESTS requests took, and what the watcher has put off until they were
over. Garbage collection is off. BENCH_LAYOUT and BENCH_URL in the environment choose a layout of memory and a database.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile

import layout
from callgrind import Counter
from watchers import WATCHERS
from workload import create_app
from workload import fill
from workload import memory_folder
from workload import serve

#: Requests until CPython has specialised the code, and everything that is cached has been.
WARM_UP = 100


def main(watcher: str, requests: int, cases: list[str]) -> None:
    """Serve the *cases* with *watcher* attached."""
    counter = Counter()
    # The thread of the store may write there still.
    with tempfile.TemporaryDirectory(dir=memory_folder(), ignore_cleanup_errors=True) as folder:
        app = create_app(folder, os.environ.get("BENCH_URL", ""))
        fill(app)
        settle = WATCHERS[watcher].attach(app)
        gc.collect()
        gc.disable()
        for case in cases:
            serve(app, case, WARM_UP)
        settle()
        counter.start()
        for case in cases:
            # The first request after another case finds colder caches.
            serve(app, case, 2)
            settle()
            counter.zero()
            serve(app, case, requests)
            counter.dump()
            settle()
            counter.dump()
        counter.stop()
    # Whatever a watcher does at the exit is not what is asked here.
    os._exit(0)


if __name__ == "__main__":
    assert layout.UNUSED is not None
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
