"""Two kinds of plots as small SVG files: stacked bars, and lines over a linear or logarithmic axis. Nothing to install.

The text stays text, so that a plot can be read, searched and compared by `diff`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

COLORS = ("#3b6ea8", "#e0803a", "#5a9e6f", "#b5534f", "#7d6bb0", "#8a7360", "#c76fa5", "#6f7780")
"""Told apart by people who see red and green alike too, by lightness."""
INK, GRID = "#2a2a2a", "#d8d8d8"
WIDTH, CHAR_PX, LINE_PX = 720, 6.6, 26

Points = Sequence[tuple[float, float]]


def bars(title: str, rows: Mapping[str, Mapping[str, float]], *, unit: str) -> str:
    """One horizontal bar for each row, made of its named parts; the sum stands at its end."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    colors = dict(zip(parts, itertools.cycle(COLORS)))
    left = 24 + CHAR_PX * max(map(len, rows))
    longest = max((sum(row.values()) for row in rows.values()), default=0.0) or 1.0
    px_per_unit = (WIDTH - left - 80) / longest
    body = []
    for index, (name, row) in enumerate(rows.items()):
        y = 76 + index * LINE_PX
        body.append(_text(left - 8, y + 13, name, anchor="end"))
        x = left
        for part, value in row.items():
            width = value * px_per_unit
            tip = f"<title>{escape(f'{name}, {part}: {_shown(value)} {unit}')}</title>"
            body.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LINE_PX - 8}" fill="{colors[part]}">{tip}</rect>'
            )
            x += width
        body.append(_text(x + 6, y + 13, f"{_shown(sum(row.values()))} {unit}"))
    legend = _legend(colors) if len(parts) > 1 else []
    return _page(title, height=76 + len(rows) * LINE_PX + 12, body=[*legend, *body])


def lines(
    title: str, series: Mapping[str, Points], *, x_label: str, y_label: str, log: bool = False, height: int = 400
) -> str:
    """One line for each series, with a dot at every point; ``log`` for both axes."""
    colors = dict(zip(series, itertools.cycle(COLORS)))
    everything = [point for points in series.values() for point in points]
    box = (70.0, 84.0, WIDTH - 24.0, height - 52.0)
    x_px, x_ticks = _axis([x for x, _ in everything], low_px=box[0], high_px=box[2], log=log, from_zero=False)
    y_px, y_ticks = _axis([y for _, y in everything], low_px=box[3], high_px=box[1], log=log, from_zero=True)
    body = [*_legend(colors)]
    for value in y_ticks:
        y = y_px(value)
        body.append(f'<line x1="{box[0]}" y1="{y:.1f}" x2="{box[2]}" y2="{y:.1f}" stroke="{GRID}"/>')
        body.append(_text(box[0] - 8, y + 4, _shown(value), anchor="end"))
    for value in x_ticks:
        body.append(_text(x_px(value), box[3] + 18, _shown(value), anchor="middle"))
    body.append(_text((box[0] + box[2]) / 2, box[3] + 40, x_label, anchor="middle"))
    body.append(_text(box[0] - 46, 74, y_label))
    for name, points in series.items():
        path = " ".join(f"{x_px(x):.1f},{y_px(y):.1f}" for x, y in sorted(points))
        body.append(f'<polyline points="{path}" fill="none" stroke="{colors[name]}" stroke-width="2"/>')
        for x, y in points:
            tip = f"<title>{escape(f'{name}: {_shown(x)}, {_shown(y)}')}</title>"
            body.append(f'<circle cx="{x_px(x):.1f}" cy="{y_px(y):.1f}" r="3.5" fill="{colors[name]}">{tip}</circle>')
    return _page(title, height=height, body=body)


def _axis(
    values: Sequence[float], *, low_px: float, high_px: float, log: bool, from_zero: bool
) -> tuple[Callable[[float], float], list[float]]:
    """Make the function from a value to its pixel, and the values at which ticks stand."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    ticks = _log_ticks(low, high) if log else _ticks(0.0 if from_zero else low, high)
    place = _log10 if log else float
    first, last = place(min(low, ticks[0])), place(max(high, ticks[-1]))
    return lambda value: low_px + (place(value) - first) / (last - first or 1.0) * (high_px - low_px), ticks


def _log10(value: float) -> float:
    return math.log10(max(value, 1e-12))


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers over [low, high]."""
    raw = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.floor(low / step)
    return [round(index * step, 10) for index in range(first, math.ceil(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, one beyond each end."""
    powers = range(math.floor(_log10(low)) - 1, math.ceil(_log10(high)) + 2)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low)
    last = min(index for index, step in enumerate(steps) if step >= high)
    return steps[first : max(last, first + 1) + 1]


def _legend(colors: Mapping[str, str]) -> list[str]:
    body, x = [], 16.0
    for name, color in colors.items():
        body.append(f'<rect x="{x:.1f}" y="44" width="11" height="11" fill="{color}"/>')
        body.append(_text(x + 16, 54, name))
        x += 34 + CHAR_PX * len(name)
    return body


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _page(title: str, *, height: float, body: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}" role="img">'
    )
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    heading = f'<text x="16" y="26" font-size="15" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, heading, *body, "</svg>", ""])


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
