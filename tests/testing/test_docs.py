"""What docs/testing.md says, done as it says."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_first_steps(pytester: pytest.Pytester) -> None:
    """The files of the page, in an empty folder, end as the page says."""
    page = PAGE.read_text().partition("## Ways to ask for it")[0]
    shop, tests = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (told,) = re.findall(r"```\n(SW101.*?)```", page, re.DOTALL)
    for name, text in ("shop.py", shop), ("test_shop.py", tests):
        (pytester.path / name).write_text(text)
    options = "-W", "default", "-p", "no:cacheprovider", "-p", "no:xdist"
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess(*options, "--sessionwatch=error")
    result.assert_outcomes(passed=1, errors=1)
    # On CI pytest does not shorten its summary, which has it once more then.
    assert told in re.sub(r"held [0-9.]+ m?s", "held 3 ms", result.stdout.str())
