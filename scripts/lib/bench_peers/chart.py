"""Plots as SVG, to be read on light and on dark pages: text and lines take the page's contrast."""

import math
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, ROW = 760, 170, 24, 44, 26
LEGEND_COLUMNS, LEGEND_ROW = 4, 20
# Colours that stay apart on white and on black, also for the colour-blind; ours come first.
COLOURS = (
    "#d55e00", "#e69f00", "#0072b2", "#009e73", "#56b4e9", "#cc79a7", "#8c8c00", "#7f7fff", "#999999",
    "#b8577a",
)
SHAPES = ("circle", "circle", "square", "diamond", "triangle", "square", "diamond", "triangle", "square", "diamond")
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 14px; font-weight: 600; }
.axis { fill: #57606a; font-size: 11px; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.mark { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .axis { fill: #9da7b3; }
  .grid { stroke: #30363d; } .mark { stroke: #9da7b3; }
}
"""


class Axis(NamedTuple):
    """Logarithmic: what is compared here differs by factors."""

    low: float
    high: float

    @classmethod
    def over(cls, values):
        return cls(min(values) / 1.12, max(values) * 1.12)

    def x(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self):
        """Round numbers, a handful of them."""
        few = [base * 10.0**power for power in range(-3, 9) for base in (1, 2, 5)]
        inside = [tick for tick in few if self.low <= tick <= self.high]
        if len(inside) < 3:
            step = nice_step((self.high - self.low) / 4)
            first = math.ceil(self.low / step)
            inside = [step * at for at in range(first, int(self.high / step) + 1)]
        while len(inside) > 9:
            inside = inside[::2]
        return inside


def nice_step(step):
    power = 10.0 ** math.floor(math.log10(step))
    return next(base * power for base in (1, 2, 5, 10) if base * power >= step)


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def dots(title, unit, rows, series, mark=None):
    """A row for each name, a dot for each series: `rows` is [(name, {series: value})].

    `mark` draws a line at a value, such as 1 for what everything is compared with.
    """
    values = [value for _, points in rows for value in points.values() if value and value > 0]
    if not values:
        return ""
    axis = Axis.over(values + ([mark] if mark else []))
    legend_rows = math.ceil(len(series) / LEGEND_COLUMNS) if len(series) > 1 else 0
    plot_top = TOP + legend_rows * LEGEND_ROW
    bottom = plot_top + len(rows) * ROW
    parts = [f'<text class="title" x="8" y="22">{escape(title)}</text>']
    if legend_rows:
        parts += legend(series)
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{plot_top}" y2="{bottom}"/>')
        parts.append(f'<text class="axis" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number(tick)}</text>')
    if mark:
        x = axis.x(mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{plot_top}" y2="{bottom}"/>')
    for at, (name, points) in enumerate(rows):
        y = plot_top + at * ROW + ROW / 2
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        # Ours last, so that they lie on top.
        for index, one in reversed(list(enumerate(series))):
            value = points.get(one)
            if value and value > 0:
                tip = f"{name}, {one}: {number(value)} {unit}"
                parts.append(shape(index, axis.x(value), y, tip))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{bottom + 34}" text-anchor="middle">{escape(unit)}</text>')
    return page(bottom + 44, title, parts)


def legend(series):
    width = (WIDTH - 24) / LEGEND_COLUMNS
    for index, name in enumerate(series):
        x = 20 + index % LEGEND_COLUMNS * width
        y = TOP + index // LEGEND_COLUMNS * LEGEND_ROW
        yield shape(index, x, y - 4, name)
        yield f'<text x="{x + 12:.1f}" y="{y}">{escape(name)}</text>'


def shape(index, x, y, tip):
    colour, kind = COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
    tip = f"<title>{escape(tip)}</title>"
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{colour}">{tip}</circle>'
    points = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "diamond": [(0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)],
        "triangle": [(0, -5), (5, 4), (-5, 4)],
    }[kind]
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)
    return f'<polygon points="{corners}" fill="{colour}" fill-opacity="0.9">{tip}</polygon>'


def page(height, title, parts):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        *parts,
        "</svg>",
    ]) + "\n"
