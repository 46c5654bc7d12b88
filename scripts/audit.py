"""Ask the services that know of vulnerabilities about what is installed here, and about what the dashboard is built with.

    python scripts/audit.py

A vulnerability ends it with status 1. A service that does not answer is named, and is no failure: not having asked is not
having found anything, and not having found nothing either.
"""

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Seconds after which a service does not answer.
PATIENCE = 180

NOT_ASKED = "not asked: the service does not answer"


def answer_of(command: t.Sequence[str]) -> t.Any:
    """Return what a command answers as JSON, or None where it answers something else."""
    # npm looks for node on PATH, and that may be the one in the virtual environment.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "PATH": path},
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def python_packages() -> list[str] | None:
    """Return the vulnerabilities of the installed packages; None where nobody could be asked."""
    audit = ("-m", "pip_audit", "--format=json", "--progress-spinner=off", "--timeout=15", "--skip-editable")
    answer = answer_of((sys.executable, *audit))
    # A package that the service does not know is skipped; if that is each one, it was not the service that answered.
    asked = [each for each in (answer or {}).get("dependencies", ()) if "vulns" in each]
    if not asked:
        return None
    return [f"{each['name']} {each['version']}: {it['id']}" for each in asked for it in each["vulns"]]


def dashboard_packages() -> list[str] | None:
    """Return the vulnerabilities of the dashboard's packages; None where nobody could be asked."""
    answer = answer_of(("npm", "--prefix", str(ROOT / "dashboard"), "audit", "--json"))
    found = (answer or {}).get("vulnerabilities")
    return None if found is None else [f"{name}: {each['severity']}" for name, each in found.items()]


def main() -> int:
    failed = False
    for name, ask in (("Python packages", python_packages), ("npm packages", dashboard_packages)):
        found = ask()
        if found is None:
            print(f"{name}: {NOT_ASKED}")
        else:
            print(f"{name}: {len(found)} vulnerabilities", *found, sep="\n  ")
            failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
