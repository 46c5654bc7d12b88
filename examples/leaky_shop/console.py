"""What the demo says on the terminal."""

import collections.abc as cabc
import os
import sys
import textwrap
import typing as t

import expected
from traffic import Tally
from verdict import Told
from verdict import Verdict

STYLES = {"bold": "1", "dim": "2", "error": "31", "warning": "33", "info": "36", "good": "32"}
WIDTH = 100
Row = tuple[str, ...]


class Console:
    """Writes to a stream, in colours where somebody looks at it."""

    def __init__(self, stream: t.TextIO = sys.stdout) -> None:
        self._stream = stream
        self._colours = stream.isatty() and "NO_COLOR" not in os.environ

    def say(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)

    def paint(self, text: str, *styles: str) -> str:
        if not self._colours or not styles:
            return text
        return f"\033[{';'.join(STYLES[style] for style in styles)}m{text}\033[0m"

    def addresses(self, shop: str, dashboard: str, token: str) -> None:
        self.say(self.paint("The leaky shop is open.", "bold"))
        for name, value in [("shop", shop), ("dashboard", dashboard), ("token", token)]:
            self.say(f"  {name:10} {self.paint(value, 'bold')}")
        self.say(self.paint("Findings follow as they come; Ctrl-C ends it.\n", "dim"))

    def finding(self, told: Told) -> None:
        """One block: what, where, what to do."""
        self.say(f"{self.paint(f'{told.code} {told.rule}', 'bold', told.level)}: {told.message}")
        if told.site:
            self.say(f"  {told.verb} at {self.paint(told.site, 'bold')} in {told.function}")
        if told.hint:
            hint = textwrap.fill(
                "hint: " + told.hint, WIDTH, initial_indent="  ", subsequent_indent="        "
            )
            self.say(self.paint(hint, "dim"))
        self.say()

    def summary(self, verdict: Verdict, tally: Tally) -> None:
        """Every bug with what was said about it, then all that was said besides."""
        self.say(self.paint("\nSummary", "bold"))
        self._table(("", "rule", "level", "count", "site", "scope"), list(_bug_rows(verdict)))
        self._others("Expected in another scope or at another line", verdict.elsewhere)
        self._others("Other rules about the same bugs", verdict.beside)
        self._others("About pools and configuration", verdict.process)
        self._others("On healthy code", verdict.false)
        self._totals(verdict, tally)

    def _others(self, title: str, findings: list[Told]) -> None:
        if findings:
            self.say(f"\n{title}")
            self._table((), [("", *_told_cells(told)) for told in findings])

    def _totals(self, verdict: Verdict, tally: Tally) -> None:
        seen, rules = len(verdict.codes_seen), len(expected.CODES)
        found = sum(told is not None for told in verdict.seen.values())
        self.say()
        self._total(
            f"{seen} of {rules} rules, {found} of {len(verdict.seen)} bugs", found == len(verdict.seen)
        )
        self._total(f"{len(verdict.false)} findings on healthy code", not verdict.false)
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(tally.statuses.items()))
        self.say(f"{tally.requests} requests served: {statuses}")
        for name, count in tally.failures.most_common():
            self.say(self.paint(f"  {count} x 5xx {name}", "dim"))

    def _total(self, text: str, good: bool) -> None:
        self.say(self.paint(text, "good" if good else "error"))

    def _table(self, head: Row, rows: list[Row]) -> None:
        widths = [max(map(len, column)) for column in zip(*([head] if head else []), *rows, strict=True)]
        if head:
            self.say(self.paint(_line(head, widths), "dim"))
        for row in rows:
            self.say(self.paint(_line(row, widths), *_row_styles(row)))


def _bug_rows(verdict: Verdict) -> cabc.Iterator[Row]:
    for bug, told in verdict.seen.items():
        if told:
            yield ("seen", *_told_cells(told))
        else:
            yield ("MISSED", f"{bug.code} {bug.rule}", "", "", bug.site, bug.scopes[0])


def _told_cells(told: Told) -> Row:
    return f"{told.code} {told.rule}", told.level, str(told.count), told.site, told.scope


def _line(cells: Row, widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _row_styles(row: Row) -> Row:
    return {"seen": ("good",), "MISSED": ("bold", "error")}.get(row[0], ())
