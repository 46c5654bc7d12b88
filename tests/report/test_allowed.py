"""``watch.allow(...)``: what it covers, and what it does not."""

import asyncio
import contextlib
import inspect
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import ConfigError
from flask_sessionwatch import Finding
from flask_sessionwatch import extension
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import world  # noqa: F401, the fixture


@pytest.fixture
def leaking(world: World) -> World:  # noqa: F811, the fixture
    return world


def leak(world: World) -> str:  # noqa: F811, a world of its own
    world.keep(world.engine.connect())
    return "ok"


def codes(world: World) -> list[str]:  # noqa: F811, a world of its own
    return sorted({finding.code for finding in world.watch.findings if finding.level != "info"})


@pytest.mark.parametrize("names", [("SW101",), ("leaked-connection",), ("SW103", "SW101")])
def test_block(leaking: World, names: tuple[str, ...]) -> None:
    """What begins in the block, also in a function that is called from there, is not told when it is left."""

    @leaking.view()
    def view() -> str:
        with leaking.watch.allow(*names):
            return leak(leaking)

    leaking.open()
    leaking.ticks(1)
    assert codes(leaking) == []


def test_other_rule(leaking: World) -> None:
    """A rule that is not named is told."""

    @leaking.view()
    def view() -> str:
        with leaking.watch.allow("SW103"):
            return leak(leaking)

    leaking.open()
    assert codes(leaking) == ["SW101"]


def test_beside_the_block(leaking: World) -> None:
    """What the same function does before and after the block is told."""

    @leaking.view(rule="/before")
    def before() -> str:
        leaking.keep(leaking.engine.connect())
        with leaking.watch.allow("SW101"):
            return "ok"

    @leaking.view(rule="/after")
    def after() -> str:
        with leaking.watch.allow("SW101"):
            pass
        leaking.keep(leaking.engine.connect())  # AFTER
        return "ok"

    leaking.open("/before")
    leaking.open("/after")
    told = leaking.told("SW101")
    assert len(told) == 2
    assert told[1].site is not None
    assert told[1].site.lineno == line("AFTER")


def test_block_of_several_lines(leaking: World) -> None:
    """A block is entered on whichever line of its statement the item is, and ends with its last line."""

    @leaking.view()
    def view() -> str:
        with (
            contextlib.nullcontext(),
            leaking.watch.allow(
                "SW101",
            ),
        ):
            if leaking.app.debug:
                return "debug"
            leaking.keep(
                leaking.engine.connect(),
            )
        return "ok"

    leaking.open()
    assert codes(leaking) == []


def test_nested_blocks(leaking: World) -> None:
    """Blocks in each other add up, and the inner one ends before the outer."""

    @leaking.view()
    def view() -> str:
        with leaking.watch.allow("SW101"):
            with leaking.watch.allow("SW201"):
                pass
            session = leaking.keep(orm.Session(leaking.engine))
            return leak(leaking) + str(session.scalar(sa.select(Item.name)))

    leaking.open()
    assert codes(leaking) == ["SW201"]


def test_exit_stack(leaking: World) -> None:
    """Entered by an ExitStack, the whole function is the block."""

    @leaking.view()
    def view() -> str:
        with contextlib.ExitStack() as stack:
            stack.enter_context(leaking.watch.allow("SW101"))
            return leak(leaking)

    leaking.open()
    assert codes(leaking) == []


def test_decorator(leaking: World) -> None:
    """A decorated function keeps its name and its answer, and whatever it calls is allowed."""

    @leaking.view()
    @leaking.watch.allow("leaked-connection")
    def view() -> str:
        """Leak."""
        return leak(leaking)

    assert leaking.open().text == "ok"
    assert codes(leaking) == []
    decorated = leaking.app.view_functions["/()"]
    assert (decorated.__name__, decorated.__doc__) == ("view", "Leak.")


def test_decorated_elsewhere(leaking: World) -> None:
    """A decorated function allows nothing to others."""

    @leaking.watch.allow("SW101")
    def allowed() -> None: ...

    @leaking.view()
    def view() -> str:
        allowed()
        return leak_outright()

    def leak_outright() -> str:
        leaking.app.extensions["session"] = session = orm.Session(leaking.engine)
        session.scalar(sa.select(Item.name))
        leaking.keep(session)
        return "ok"

    leaking.open()
    assert "SW201" in codes(leaking)


def test_coroutine_function(leaking: World) -> None:
    """A decorated coroutine function stays one."""

    @leaking.watch.allow("SW101")
    async def view() -> str:
        return leak(leaking)

    assert inspect.iscoroutinefunction(view)
    with leaking.watch.scope("job"):
        assert asyncio.run(view()) == "ok"
    assert codes(leaking) == []


def test_generator_function(leaking: World) -> None:
    """A decorated generator function allows what its body does, though that runs later."""

    @leaking.watch.allow("SW101")
    def rows() -> t.Iterator[str]:
        yield leak(leaking)

    with leaking.watch.scope("job"):
        assert list(rows()) == ["ok"]
    assert codes(leaking) == []


def test_class(leaking: World) -> None:
    """Only functions can be decorated."""
    with pytest.raises(TypeError, match="'allow' decorates functions"):
        leaking.watch.allow("SW101")(Item)


def commit_often(world: World, session: orm.Session) -> None:  # noqa: F811, a world of its own
    for number in range(12):
        session.add(Item(name=f"item {number}"))
        session.commit()


def test_whole_scope(leaking: World) -> None:
    """A finding about a scope as a whole is covered once the block was entered in it."""

    @leaking.view("POST")
    def view() -> str:
        with orm.Session(leaking.engine) as session:
            commit_often(leaking, session)
        with leaking.watch.allow("commit-storm"):
            return "ok"

    leaking.open(method="POST")
    assert codes(leaking) == []


def test_whole_scope_of_another_request(leaking: World) -> None:
    """What was allowed in one request is told in the next, where nobody allows it."""

    @leaking.view("POST", rule="/<int:number>")
    def view(number: int) -> str:
        if not number:
            with leaking.watch.allow("SW501"):
                pass
        with orm.Session(leaking.engine) as session:
            for each in range(12):
                session.add(Item(name=f"item {number} {each}"))
                session.commit()
        return "ok"

    leaking.open("/0", method="POST")
    assert codes(leaking) == []
    leaking.open("/1", method="POST")
    assert codes(leaking) == ["SW501"]


def test_held_from_before(leaking: World) -> None:
    """What began before the block is allowed while its holder is inside, and told when it is not."""
    leaking.configure(long_checkout=30.0)
    with leaking.engine.connect():
        in_block: list[Finding] = []
        with leaking.watch.allow("SW103"):
            in_thread(lambda: leaking.tick_after(60))
            in_block += leaking.told("SW103")
        in_thread(lambda: leaking.tick_after(60))
        assert in_block == []
        assert len(leaking.told("SW103")) == 1


def test_lost_write(leaking: World) -> None:
    """A write is allowed where it was made, though its session began before."""

    @leaking.view("POST")
    def view() -> str:
        with orm.Session(leaking.engine) as session:
            session.scalar(sa.select(Item.name))
            with leaking.watch.allow("SW204"):
                session.add(Item(name="preview"))
                session.flush()
            return "ok"

    leaking.open(method="POST")
    assert codes(leaking) == []


def test_raise(leaking: World) -> None:
    """What is allowed is not raised."""
    leaking.app.config["SESSIONWATCH_RAISE"] = ["SW101"]
    watch = leaking.configure()

    @leaking.view()
    def view() -> str:
        with watch.allow("SW101"):
            return leak(leaking)

    assert leaking.open().text == "ok"


def test_exception(leaking: World) -> None:
    """An exception passes through the block and through the decorated function as it was."""
    with pytest.raises(KeyError, match="mine"), leaking.watch.allow("SW101"):
        raise KeyError("mine")

    @leaking.watch.allow("SW101")
    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()


@pytest.mark.parametrize(
    ("name", "nearest"), [("SW101x", "SW101"), ("leaked-conection", "leaked-connection")]
)
def test_unknown_rule(leaking: World, name: str, nearest: str) -> None:
    """A rule that does not exist is an error that names the nearest."""
    with pytest.raises(
        ConfigError, match=f"'allow' names '{name}', which is no rule. Did you mean '{nearest}'"
    ):
        leaking.watch.allow(name)


def test_no_rule(leaking: World) -> None:
    """To allow everything is not possible."""
    with pytest.raises(ConfigError, match="takes codes or names of rules"):
        leaking.watch.allow()


def test_own_error(leaking: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own in a block does not reach the application."""
    failed: list[str] = []
    monkeypatch.setattr(extension._process.recorder, "failed", failed.append)

    def broken() -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(extension._process.recorder, "scope", broken)

    @leaking.watch.allow("SW101")
    def work() -> str:
        with leaking.watch.allow("SW101"):
            return "done"

    assert work() == "done"
    assert len(failed) == 2


def test_source_is_gone(leaking: World, tmp_path: Path) -> None:
    """Where the source cannot be read, the whole function is the block."""
    leaking.configure(app_paths=[str(tmp_path)])
    source = (
        "def job(world):\n"
        "    with world.watch.allow('SW101'):\n"
        "        pass\n"
        "    world.keep(world.engine.connect())\n"
        "def other(world):\n"
        "    world.keep(world.engine.connect())\n"
    )
    namespace: dict[str, t.Any] = {}
    exec(compile(source, str(tmp_path / "gone.py"), "exec"), namespace)  # noqa: S102, a module whose file was deleted
    with leaking.watch.scope("job"):
        namespace["job"](leaking)
    assert codes(leaking) == []
    with leaking.watch.scope("other"):
        namespace["other"](leaking)
    assert codes(leaking) == ["SW101"]


def test_disabled(leaking: World) -> None:
    """With the watch turned off a block does nothing."""
    leaking.configure(enabled=False)
    with leaking.watch.allow("SW101"):
        pass
