"""A small application with bugs, for servers to run. It is watched here, or from outside: then it knows nothing of it.

SHOP_DATABASE is the URL of its database, SHOP_POOL the size of its pool; SHOP_WATCHED says whether it watches itself.
"""

import os
import threading
import time

import flask
import sqlalchemy as sa
from sqlalchemy import orm


def create_app() -> flask.Flask:
    """Make the application and, where it is asked for, its watch."""
    app = flask.Flask("shop", instance_path=os.environ["SHOP_INSTANCE"])
    size = int(os.environ.get("SHOP_POOL", "5"))
    engine = sa.create_engine(
        os.environ["SHOP_DATABASE"], poolclass=sa.QueuePool, pool_size=size, max_overflow=0, pool_timeout=60
    )
    kept: list[orm.Session] = []
    once = threading.Lock()

    @app.get("/pid")
    def pid() -> str:
        time.sleep(0.05)  # the next request goes to another worker
        return str(os.getpid())

    @app.get("/leak-once")
    def leak_once() -> str:
        time.sleep(0.05)
        if once.acquire(blocking=False):
            kept.append(orm.Session(engine))
            kept[-1].execute(sa.select(1))
        return str(os.getpid())

    @app.get("/leak")
    def leak() -> str:
        kept.append(orm.Session(engine))
        kept[-1].execute(sa.select(1))
        return str(os.getpid())

    @app.get("/healthy")
    def healthy() -> str:
        with orm.Session(engine) as session:
            return str(session.scalar(sa.select(1)))

    @app.get("/healthy-pid")
    def healthy_pid() -> str:
        with orm.Session(engine) as session:
            session.execute(sa.select(1))
            time.sleep(0.05)
        return str(os.getpid())

    @app.get("/metrics-folder")
    def metrics_folder() -> str:
        return os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")

    if os.environ.get("SHOP_WATCHED"):
        from flask_sessionwatch import SessionWatch

        SessionWatch(app)
    return app


app = create_app()
