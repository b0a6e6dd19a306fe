"""The report: one HTML page that needs nothing else, `report.py [options] TARGET`.

The charts are SVG written out by hand, with the standard library alone. Colours follow the reader's system, light or dark; every
mark says its value when the pointer rests on it.
"""

import argparse
import csv
import json
import os
from collections.abc import Iterator
from datetime import date
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from page import PAGE
from weather import Day, pace, read_days, tell

WIDTH = 1000
LEFT, RIGHT = 52, 64
PLOT = WIDTH - LEFT - RIGHT
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONG_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MONTH_STARTS = tuple(date(2012, month, 1).timetuple().tm_yday - 1 for month in range(1, 13))
RAIN_FROM_MM = (0.0, 1, 5, 10, 20)
"""Lower ends of the calendar's colours, after "dry"."""


def main() -> None:
    given = _arguments()
    pace()
    days = read_days("weather.csv")
    normals = json.loads(Path("normals.json").read_text())
    years = json.loads(Path("years.json").read_text())
    with Path("unusual-days.csv").open(newline="", encoding="utf-8") as file:
        unusual = list(csv.DictReader(file))

    wet_days = sum(year["wet_days"] for year in years)
    title = f"Seattle was wet on {wet_days / len(days):.0%} of days"
    page = PAGE.substitute(
        title=escape(title),
        first=_spoken(days[0].date),
        last=_spoken(days[-1].date),
        tiles="\n".join(_tiles(days, wet_days, given)),
        highs=_highs(days, normals, {row["date"] for row in unusual}),
        highs_head=_highs_head(years),
        calendar_head=_calendar_head(days, given.wet_from),
        calendar=_calendar(days, given.wet_from),
        calendar_legend=_calendar_legend(given.wet_from),
        rain=_rain(years),
        rain_head=_rain_head(years),
        rows="\n".join(_rows(unusual)),
        count=len(unusual),
        unusual=f"{given.unusual:g}",
        wet_from=f"{given.wet_from:g}",
        days=f"{len(days):,}",
        run=escape(os.environ.get("RUNFOLD_RUN", "")),
        tries=given.fetched_by_attempt,
    )
    Path(given.target).write_text(page, encoding="utf-8")
    tell(title=title, bytes=len(page.encode()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fetched-by-attempt", type=int, required=True)
    parser.add_argument("--dry", type=json.loads, required=True)
    parser.add_argument("--wet", type=json.loads, required=True)
    parser.add_argument("--wet-from", type=float, required=True)
    parser.add_argument("--unusual", type=float, required=True)
    parser.add_argument("target")
    return parser.parse_args()


def _tiles(days: list[Day], wet_days: int, given: argparse.Namespace) -> Iterator[str]:
    hottest, coldest = max(days, key=lambda day: day.high), min(days, key=lambda day: day.low)
    wettest = max(days, key=lambda day: day.rain)
    yield _tile("Wet days", f"{wet_days:,}", f"of {len(days):,} days")
    yield _tile("Longest dry spell", f"{given.dry['days']} days", _span(given.dry))
    yield _tile("Longest wet spell", f"{given.wet['days']} days", _span(given.wet))
    yield _tile("Most rain in a day", f"{wettest.rain:g} mm", _spoken(wettest.date))
    yield _tile("Hottest", f"{hottest.high:.1f} °C", _spoken(hottest.date))
    yield _tile("Coldest", f"{coldest.low:.1f} °C".replace("-", "−"), _spoken(coldest.date))


def _tile(name: str, value: str, note: str) -> str:
    return f'<div class="tile"><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>'


# --- how warm it was ------------------------------------------------------------------------------------------------------------

ROW, ROW_GAP = 128, 16
LOWEST, HIGHEST = -4, 37


def _highs_head(years: list[dict[str, Any]]) -> str:
    first, last = years[0], years[-1]
    difference = last["high_mean"] - first["high_mean"]
    word = "warmer" if difference > 0 else "colder"
    return f"{last['year']}’s days were {abs(difference):.1f} °C {word} than {first['year']}’s, on average"


def _highs(days: list[Day], normals: list[dict[str, float]], unusual: set[str]) -> str:
    years = sorted({day.date.year for day in days})
    height = len(years) * (ROW + ROW_GAP) + 14
    step = PLOT / 366
    parts = [_open_svg(height, "Each day's high against the normal of its date, one row for each year")]

    def at(top: float, degrees: float) -> float:
        return top + ROW * (HIGHEST - degrees) / (HIGHEST - LOWEST)

    for number, year in enumerate(years):
        top = number * (ROW + ROW_GAP) + 4
        for degrees in (0, 10, 20, 30):
            y = at(top, degrees)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{degrees}°</text>')
        parts.append(f'<text class="name" x="{WIDTH - RIGHT + 12}" y="{at(top, 14):.1f}">{year}</text>')
        rings = []
        for day in (day for day in days if day.date.year == year):
            normal = normals[day.of_year]["mean"]
            x, zero, y = LEFT + day.of_year * step, at(top, normal), at(top, day.high)
            kind = "warm" if day.high >= normal else "cool"
            tip = f"<title>{_spoken(day.date)}: {day.high:.1f} °C, normal {normal:.1f} °C</title>"
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{min(zero, y):.1f}" width="{step - 0.35:.2f}" '
                f'height="{max(abs(zero - y), 0.4):.1f}">{tip}</rect>'
            )
            if day.date.isoformat() in unusual:
                rings.append(f'<circle class="ring" cx="{x + step / 2:.1f}" cy="{y:.1f}" r="4">{tip}</circle>')
        points = " ".join(
            f"{LEFT + (at_day + 0.5) * step:.1f},{at(top, one['mean']):.1f}" for at_day, one in enumerate(normals)
        )
        parts.append(f'<polyline class="normal" points="{points}"/>')
        parts += rings
    parts.append(_months(height - 4))
    return "".join([*parts, "</svg>"])


# --- when it rained -------------------------------------------------------------------------------------------------------------

CELL = PLOT / 53.5
CELL_HEIGHT = 12.5


def _calendar_head(days: list[Day], wet_from: float) -> str:
    shares = []
    for month, name in enumerate(LONG_MONTHS, start=1):
        rains = [day.rain for day in days if day.date.month == month]
        shares.append((sum(rain >= wet_from for rain in rains) / len(rains), name))
    (driest, dry_month), (wettest, wet_month) = min(shares), max(shares)
    return f"In {dry_month} {driest:.0%} of days are wet, in {wet_month} {wettest:.0%}"


def _calendar(days: list[Day], wet_from: float) -> str:
    years = sorted({day.date.year for day in days})
    block = 7 * CELL_HEIGHT + 20
    height = len(years) * block + 10
    parts = [_open_svg(height, "Precipitation of each day, one block for each year, one column for each week")]
    for number, year in enumerate(years):
        top = number * block + 2
        first = date(year, 1, 1)
        for day in (day for day in days if day.date.year == year):
            place = (day.date - first).days + first.weekday()
            x, y = LEFT + place // 7 * CELL, top + place % 7 * CELL_HEIGHT
            parts.append(
                f'<rect class="r{_rain_class(day.rain, wet_from)}" x="{x:.1f}" y="{y:.1f}" width="{CELL - 2:.1f}" '
                f'height="{CELL_HEIGHT - 2:.1f}" rx="2"><title>{_spoken(day.date)}: {day.rain:g} mm</title></rect>'
            )
        parts.append(f'<text class="name" x="{WIDTH - RIGHT + 12}" y="{top + 3.9 * CELL_HEIGHT:.1f}">{year}</text>')
        for place, text in ((0, "Mon"), (3, "Thu"), (6, "Sun")):
            parts.append(
                f'<text class="tick end" x="{LEFT - 8}" y="{top + (place + 0.78) * CELL_HEIGHT:.1f}">{text}</text>'
            )
    parts.append(_months(height - 4))
    return "".join([*parts, "</svg>"])


def _rain_class(rain: float, wet_from: float) -> int:
    """0 for a dry day, then 1 and up."""
    return 0 if rain < wet_from else sum(rain >= bound for bound in RAIN_FROM_MM)


def _calendar_legend(wet_from: float) -> str:
    words = [
        "dry",
        *(f"{max(low, wet_from):g}–{high:g}" for low, high in pairwise(RAIN_FROM_MM)),
    ]
    words.append(f"{RAIN_FROM_MM[-1]:g} mm and more")
    return "".join(f'<span><i class="box r{number}"></i>{word}</span>' for number, word in enumerate(words))


# --- how much it rained ---------------------------------------------------------------------------------------------------------


def _rain(years: list[dict[str, Any]]) -> str:
    height, bottom = 330, 300
    most: float = max(year["rain_mm"] for year in years)
    top_mm = -(-most // 250) * 250
    parts = [_open_svg(height, "Precipitation since the first of January, a line for each year")]

    def at(mm: float) -> float:
        return bottom - (bottom - 12) * mm / top_mm

    for mm in range(0, int(top_mm) + 1, 250):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at(mm):.1f}" y2="{at(mm):.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{at(mm) + 4:.1f}">{mm:,}</text>')
    ends = []
    for number, year in enumerate(years):
        so_far = year["rain_so_far_mm"]
        step = PLOT / len(so_far)
        points = " ".join(f"{LEFT + (day + 1) * step:.1f},{at(mm):.1f}" for day, mm in enumerate(so_far))
        tip = f"<title>{year['year']}: {year['rain_mm']:,.0f} mm, {year['wet_days']} wet days</title>"
        parts.append(f'<polyline class="line l{number % 4}" points="{points}">{tip}</polyline>')
        ends.append((at(so_far[-1]) + 4, number, year["year"]))
    # Two years that end alike must not print over each other.
    y = 0.0
    for wanted, number, name in sorted(ends):
        y = max(wanted, y + 15)
        x = WIDTH - RIGHT + 8
        parts.append(f'<circle class="dot l{number % 4}" cx="{x}" cy="{y - 4:.1f}" r="4"/>')
        parts.append(f'<text class="name small" x="{x + 9}" y="{y:.1f}">{name}</text>')
    parts.append(_months(height - 8))
    return "".join([*parts, "</svg>"])


def _rain_head(years: list[dict[str, Any]]) -> str:
    most, least = max(years, key=lambda year: year["rain_mm"]), min(years, key=lambda year: year["rain_mm"])
    return f"{most['year']} brought {most['rain_mm']:,.0f} mm, {least['year']} only {least['rain_mm']:,.0f} mm"


# --- pieces ---------------------------------------------------------------------------------------------------------------------


def _open_svg(height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'


def _months(y: float) -> str:
    step = PLOT / 366
    return "".join(
        f'<text class="tick" x="{LEFT + (start + 15) * step:.1f}" y="{y:.1f}">{name}</text>'
        for start, name in zip(MONTH_STARTS, MONTHS, strict=True)
    )


def _rows(unusual: list[dict[str, str]]) -> Iterator[str]:
    for row in unusual:
        deviations = float(row["deviations"])
        kind = "warm" if deviations > 0 else "cool"
        yield (
            f"<tr><td>{_spoken(date.fromisoformat(row['date']))}</td><td>{_degrees(float(row['high']))}</td>"
            f"<td>{_degrees(float(row['normal']))}</td>"
            f'<td><i class="box {kind}"></i>{abs(deviations):.1f} {"warmer" if deviations > 0 else "colder"}</td></tr>'
        )


def _degrees(value: float) -> str:
    return f"{value:.1f} °C".replace("-", "−")


def _spoken(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _span(spell: dict[str, Any]) -> str:
    first, last = date.fromisoformat(spell["first"]), date.fromisoformat(spell["last"])
    if first.year != last.year:
        return f"{_spoken(first)} – {_spoken(last)}"
    if first.month != last.month:
        return f"{first.day} {MONTHS[first.month - 1]} – {_spoken(last)}"
    return f"{first.day} – {_spoken(last)}"


main()
