"""What is normal on each day of the year, in two steps.

`normals.py by-day WEATHER TARGET` gathers the highs of each day of the year; `normals.py smooth SOURCE TARGET` makes a mean and a
standard deviation of them over a window that wraps around the turn of the year, since four values a day are few.
"""

import json
import statistics
import sys
from pathlib import Path

from weather import pace, read_days

HALF_WINDOW = 14
"""Days on each side."""


def by_day(source: str) -> list[list[float]]:
    highs: list[list[float]] = [[] for _ in range(366)]
    for day in read_days(source):
        highs[day.of_year].append(day.high)
    return highs


def smooth(source: str) -> list[dict[str, float]]:
    highs = json.loads(Path(source).read_text())
    normals = []
    for day in range(366):
        near = [high for shift in range(-HALF_WINDOW, HALF_WINDOW + 1) for high in highs[(day + shift) % 366]]
        normals.append({"mean": round(statistics.fmean(near), 2), "spread": round(statistics.stdev(near), 2)})
    return normals


step, source, target = sys.argv[1:]
pace()
result = by_day(source) if step == "by-day" else smooth(source)
Path(target).write_text(json.dumps(result))
print(f"{step}: {len(result)} days of the year")
