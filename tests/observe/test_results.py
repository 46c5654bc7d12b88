"""What a statement does is read off its text, or off what it was compiled from."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from flask_sessionwatch.observe.results import Control
from flask_sessionwatch.observe.results import control_of
from flask_sessionwatch.observe.results import is_temporary
from flask_sessionwatch.observe.results import writes


@pytest.mark.parametrize(
    "statement",
    [
        "insert into item values (1)",
        "  UPDATE item SET hits = 0",
        "-- why\n/* where */ delete from item",
        "/**/REPLACE INTO item VALUES (1)",
        "with old as (delete from item returning *) select * from old",
    ],
)
def test_writes(statement: str) -> None:
    """A statement writes by its first word behind all comments, or within its WITH clause."""
    assert writes(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "   ",
        "-- insert",
        "/* update",
        "/* insert */ select 1",
        "select 'insert'",
        "with a as (select 1) select",
    ],
)
def test_does_not_write(statement: str) -> None:
    """Nothing else does, also where a comment speaks of writing, or never ends."""
    assert not writes(statement)


@pytest.mark.parametrize(
    ("statement", "control"),
    [
        ("SAVEPOINT sa_savepoint_1", Control("mark", "sa_savepoint_1")),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_1", Control("back", "sa_savepoint_1")),
        ("rollback to a;", Control("back", "a")),
        ("ROLLBACK WORK TO SAVEPOINT a", Control("back", "a")),
        (" commit", Control("end", "")),
        ("COMMIT;", Control("end", "")),
        ("Rollback Work", Control("end", "")),
        ("END", Control("end", "")),
        ("ABORT", Control("end", "")),
        ("RELEASE SAVEPOINT a", None),
        ("COMMENT ON TABLE item IS 'commit'", None),
        ("select 'commit'", None),
        ("", None),
    ],
)
def test_control(statement: str, control: Control | None) -> None:
    """A statement may mark a place in its transaction, go back to one, or end the whole."""
    assert control_of(statement) == control


def test_is_temporary() -> None:
    """A table is temporary by its prefix; what has no table, or was given as text, is not."""
    items = sa.table("item", sa.column("id"))
    plain = sa.Table("item", sa.MetaData(), sa.Column("id", sa.Integer))
    staged = sa.Table("staged", sa.MetaData(), sa.Column("id", sa.Integer), prefixes=["temp"])

    def context(statement: sa.Executable | None) -> SimpleNamespace:
        return SimpleNamespace(compiled=None if statement is None else SimpleNamespace(statement=statement))

    assert is_temporary(context(sa.insert(staged)))
    for lasting in (sa.insert(plain), sa.delete(items), sa.select(plain), None):
        assert not is_temporary(context(lasting))
