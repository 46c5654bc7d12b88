"""Draw small charts as SVG: bars beside each other, and curves on logarithmic scales."""

from __future__ import annotations

import html
import math
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

_WIDTH = 640
_COLOURS = ("#1f6feb", "#9a6700", "#1a7f37", "#8250df")
#: Readable on a light page and on a dark one.
_INK = "#768390"
_STYLE = f"<style>text{{font:12px system-ui,sans-serif;fill:{_INK}}}.end{{text-anchor:end}}</style>"
_ROW = 22


class Curve(t.NamedTuple):
    """A line of a chart."""

    title: str
    points: list[tuple[float, float]]


def bars(title: str, rows: Mapping[str, float], show: Callable[[float], str]) -> str:
    """Return a chart with a bar for each of *rows*, from zero on."""
    left, right = 210, 90
    scale = (_WIDTH - left - right) / max(*rows.values(), 1e-9)
    parts = [_text(0, 14, title)]
    for number, (name, value) in enumerate(rows.items()):
        y = 28 + number * _ROW
        width = max(1.0, value * scale)
        parts += [
            _text(left - 8, y + 12, name, "end"),
            f'<rect x="{left}" y="{y}" width="{width:.0f}" height="{_ROW - 7}" fill="{_COLOURS[0]}"/>',
            _text(left + width + 6, y + 12, show(value)),
        ]
    return _svg(34 + len(rows) * _ROW, parts)


def curves(title: str, lines: Sequence[Curve], x_title: str, show: Callable[[float], str]) -> str:
    """Return a chart of *lines*; both axes are logarithmic, and the lower one is drawn at the points."""
    left, top, height = 80, 30, 150
    points = [point for line in lines for point in line.points]
    xs, ys = [math.log10(x) for x, _ in points], [math.log10(y) for _, y in points]
    low, high = math.floor(min(ys)), math.ceil(max(ys))
    high = max(high, low + 1)

    def across(x: float) -> float:
        return left + (math.log10(x) - min(xs)) / ((max(xs) - min(xs)) or 1) * (_WIDTH - left - 30)

    def down(y: float) -> float:
        return top + (high - math.log10(y)) / (high - low) * height

    parts = [_text(0, 14, title)]
    for power in range(low, high + 1):
        y = down(10**power)
        parts += [
            _text(left - 8, y + 4, show(10**power), "end"),
            f'<path d="M{left} {y:.0f}H{_WIDTH - 20}" stroke="{_INK}" stroke-opacity=".3"/>',
        ]
    for x in sorted({x for x, _ in points}):
        parts.append(_text(across(x), top + height + 16, f"{x:,.0f}", "end"))
    parts.append(_text(left, top + height + 34, x_title))
    for number, (line, colour) in enumerate(zip(lines, _COLOURS, strict=False)):
        path = " ".join(f"{across(x):.0f},{down(y):.0f}" for x, y in line.points)
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_WIDTH - 20}" y="{top + height + 34 + 16 * number}" class="end" style="fill:{colour}">'
            f"{html.escape(line.title)}</text>",
        ]
    return _svg(top + height + 26 + 16 * max(1, len(lines)), parts)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{html.escape(text)}</text>'


def _svg(height: float, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', _STYLE, *parts, "</svg>"]) + "\n"
