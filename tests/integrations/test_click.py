"""click: commands are scopes, also those without an app context, and end as they did."""

import click
import pytest
from click.testing import CliRunner

from flask_sessionwatch.integrations.click import watch_click
from flask_sessionwatch.observe.records import Scope
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line


@pytest.fixture
def program() -> click.Group:
    """A program with commands of its own."""
    return click.Group("manage.py")


def run(program: click.Command, *args: str) -> int:
    return int(CliRunner().invoke(program, args, prog_name="manage.py").exit_code)


def test_command(world: World, program: click.Group, ended: list[Scope]) -> None:
    """Each command of a group is a scope named as it is called, a nested and a later one too."""
    assert watch_click(world.watch, watch_click(world.watch, program)) is program

    @program.group()
    def users() -> None:
        """What is done to users."""

    @users.command()
    @click.argument("name")
    def purge(name: str) -> None:
        with world.engine.connect():
            click.echo(name)

    assert run(program, "users", "purge", "ann") == 0
    assert run(program, "users", "purge", "bob") == 0
    assert [(scope.name, scope.kind) for scope in ended] == [("manage.py users purge", "command")] * 2
    assert world.watch.findings == []


def test_leak(world: World, program: click.Group) -> None:
    """A connection that a command leaves checked out is told as the command's."""

    @program.command()
    def leak() -> None:
        world.keep(world.engine.connect())  # leaked

    assert run(watch_click(world.watch, program), "leak") == 0
    finding = world.only("SW101")
    assert at(finding) == line("leaked")
    assert finding.scope == ("manage.py leak", "command")


@pytest.mark.parametrize(("status", "error"), [(0, None), (3, "Exit")])
def test_exit(world: World, program: click.Group, ended: list[Scope], status: int, error: str | None) -> None:
    """A command ends with its own status; with 0 it has not failed."""

    @program.command()
    @click.pass_context
    def leave(ctx: click.Context) -> None:
        ctx.exit(status)

    assert run(watch_click(world.watch, program), "leave") == status
    assert [scope.error for scope in ended] == [error]


def test_failure(world: World, program: click.Group, ended: list[Scope]) -> None:
    """A command that raises is remembered by its exception; one that does not exist is click's own business."""

    @program.command()
    def fail() -> None:
        raise KeyError("no stock")

    watch_click(world.watch, program)
    assert isinstance(CliRunner().invoke(program, ["fail"]).exception, KeyError)
    assert run(program, "none") == 2
    assert [scope.error for scope in ended] == ["KeyError"]


def test_single_command(world: World, ended: list[Scope]) -> None:
    """A program that is one command is named by itself, and with an app context in it is still one scope."""

    @click.command()
    def load() -> None:
        with world.app.app_context(), world.engine.connect():
            pass

    assert run(watch_click(world.watch, load)) == 0
    assert [scope.name for scope in ended] == ["manage.py"]
