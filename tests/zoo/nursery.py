"""A process that forks for each case of the zoo, so that what all of them import is imported once.

A case has a process of its own as with run.py: none has seen another, nor flask_sessionwatch, when it begins. Reads lines
of JSON, each the path of a module, the URL of its database and a file for its output; answers each when the case is over.
"""

import importlib
import json
import os
import signal
import sys

from tests.zoo import run as zoo

SECONDS = 60
#: Never flask_sessionwatch: what it sees depends on whether it is imported before or after the application.
IMPORTED = (
    "flask.testing",
    "flask_sqlalchemy",
    "prometheus_client",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "sqlalchemy.orm",
    "psycopg",
    "pymysql",
)


def serve() -> None:
    """Fork for each line, one after the other."""
    for name in IMPORTED:
        importlib.import_module(name)
    for request in sys.stdin:
        path, url, output = json.loads(request)
        case = os.fork()
        if not case:
            live(path, url, output)
        os.waitpid(case, 0)
        sys.stdout.write("over\n")
        sys.stdout.flush()


def live(path: str, url: str, output: str) -> None:
    """Be the process of one case."""
    signal.alarm(SECONDS)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    zoo.child(path, url)  # which exits


if __name__ == "__main__":
    serve()
