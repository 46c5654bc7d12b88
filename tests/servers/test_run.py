"""``flask-sessionwatch run``: applications that know nothing of the watch are watched."""

import os
import signal
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch import program
from tests.servers.conftest import BIN
from tests.servers.conftest import deployed
from tests.servers.conftest import gunicorn
from tests.servers.conftest import until

RUN = [str(BIN / "flask-sessionwatch"), "run", "--"]
#: An argument that makes a command look like a server with several workers, which is not replaced but supervised.
AS_SERVER = "gunicorn"
BOTH = pytest.mark.parametrize("extra", [[], [AS_SERVER]], ids=["replaced", "supervised"])


def python(code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program of one's own in Python under the watch."""
    command = [*RUN, sys.executable, "-c", code, *arguments]
    inherited = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    env = {**inherited, **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_gunicorn() -> None:
    """Bugs of an application that never heard of the watch are found in every worker, and its metrics add up."""
    with deployed([*RUN, *gunicorn("--threads", "4")], SHOP_WATCHED="") as server:
        folder = Path(server.get("/metrics-folder").text)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        workers = server.on_each("/leak-once", 2)
        until(lambda: server.workers() == server.holders() == workers)
        assert until(lambda: server.finding("SW201"))["site"]["filename"].endswith("servers/shop.py")
        until(lambda: server.metrics()["sessionwatch_leaked_sessions",] == 2)
        assert server.metrics()["sessionwatch_findings_total", "SW201", "error", "leaked-session"] == 2
        assert server.finding("SW709") is None
        assert server.end() == 0
        assert not folder.exists()


def test_own_watch() -> None:
    """An application that watches itself goes on doing so, and nothing is told twice."""
    command = [str(BIN / "waitress-serve"), "--unix-socket", "{socket}", "shop:app"]
    with deployed([*RUN, *command]) as server:
        assert server.get("/metrics-folder").text == ""
        server.get("/leak-once")
        assert until(lambda: server.finding("SW201"))["count"] == 1
        assert server.log.count("SW201 leaked-session") == 1
        assert server.process.poll() is None


def test_setting_that_makes_no_sense() -> None:
    """When an application cannot be watched the log says why, and the application runs."""
    command = [str(BIN / "waitress-serve"), "--unix-socket", "{socket}", "shop:app"]
    with deployed([*RUN, *command], SHOP_WATCHED="", SESSIONWATCH_TICK="never") as server:
        assert server.get("/healthy").text == "1"
        assert "the application shop is not watched: ConfigError: 'SESSIONWATCH_TICK'" in server.log


@BOTH
def test_exit_status(extra: list[str]) -> None:
    """The exit status is the command's own."""
    assert subprocess.run([*RUN, "sh", "-c", "exit 7", *extra], check=False).returncode == 7


@BOTH
def test_death_by_signal(extra: list[str]) -> None:
    """A command that dies of a signal is seen to have done so."""
    done = subprocess.run([*RUN, "sh", "-c", "kill -KILL $$", *extra], check=False)
    assert done.returncode == -signal.SIGKILL


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals(extra: list[str], number: signal.Signals) -> None:
    """What is sent to it reaches the command."""
    code = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(3))\n"
        "print('ready', flush=True)\nsignal.pause()"
    )
    with subprocess.Popen(
        [*RUN, sys.executable, "-c", code, *extra], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert t.cast(t.IO[bytes], process.stdout).readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(30) == 3


@BOTH
def test_no_such_command(extra: list[str], tmp_path: Path) -> None:
    """A command that does not exist ends as it does in a shell."""
    done = subprocess.run([*RUN, "no-such-command", *extra], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, "Error: There is no command 'no-such-command'.\n")


def test_metrics_of_the_user(tmp_path: Path) -> None:
    """A folder for metrics that is set already is left alone."""
    code = "import os; print(os.environ['PROMETHEUS_MULTIPROC_DIR'])"
    assert python(code, AS_SERVER, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).stdout == f"{tmp_path}\n"
    assert tmp_path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folder_goes_with_the_user() -> None:
    """When the server of root becomes another user in its workers, they can write their metrics."""
    code = (
        "import os\nfolder = os.environ['PROMETHEUS_MULTIPROC_DIR']\nopen(folder + '/counter_1.db', 'x').close()\n"
        "os.setuid(65534)\nopen(folder + '/counter_1.db', 'a').close()\nopen(folder + '/counter_2.db', 'x').close()"
    )
    done = python(code, AS_SERVER)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folder_of_somebody_else() -> None:
    """A program of another user, which cannot write to the folder, is not told of it."""
    code = (
        "import os, sitecustomize\nos.setresuid(65534, 65534, 65534)\nsitecustomize._prepare_metrics()\n"
        "print(os.environ.get('PROMETHEUS_MULTIPROC_DIR'))"
    )
    done = python(code, AS_SERVER)
    assert (done.returncode, done.stdout) == (0, "None\n")


# What a Python under the watch notices of it


def test_programs_without_flask() -> None:
    """A Python that does not import Flask has nothing of ours in it; one that does is watched."""
    code = "print([each for each in ('flask_sessionwatch', 'sqlalchemy', 'typing') if each in sys.modules])"
    assert python(f"import sys; {code}").stdout in ("[]\n", "['typing']\n")
    assert "flask_sessionwatch" in python(f"import sys, flask; {code}").stdout


def test_hidden_sitecustomize(tmp_path: Path) -> None:
    """A sitecustomize that was there before runs, too, and is the one that others see."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.theirs = True\nMINE = 1\n")
    code = "import sys, sitecustomize; print(sys.theirs, sitecustomize.MINE, 'launch' in str(sys.path)); import flask"
    done = python(code, PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("True 1 False\n", "")


def test_error_in_a_hidden_sitecustomize(tmp_path: Path) -> None:
    """An error in it is told as it would be without us."""
    (tmp_path / "sitecustomize.py").write_text("import no_such_module\n")
    done = python("import flask; print('goes on')", PYTHONPATH=str(tmp_path))
    assert done.stdout == "goes on\n"
    assert "No module named 'no_such_module'" in done.stderr


def test_watch_cannot_be_imported(tmp_path: Path) -> None:
    """A Python in which the watch cannot be imported says so and goes on."""
    (tmp_path / "flask.py").touch()
    # As the command would be started, for the program itself could not be either.
    path = os.pathsep.join([program._LAUNCH, str(tmp_path)])
    command = [sys.executable, "-c", "import flask; print('goes on')"]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "goes on\n"
    told = f"flask_sessionwatch does not watch this process ({sys.executable}): ModuleNotFoundError: "
    assert done.stderr.startswith(told)
