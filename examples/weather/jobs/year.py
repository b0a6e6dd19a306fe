"""One year in numbers: `year.py WEATHER YEAR WET_FROM_MM TARGET`."""

import json
import sys
from itertools import accumulate
from pathlib import Path

from weather import pace, read_days, tell

source, year, wet_from, target = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])

pace()
days = [day for day in read_days(source) if day.date.year == year]
months = [[day for day in days if day.date.month == month] for month in range(1, 13)]
summary = {
    "year": year,
    "days": len(days),
    "wet_days": sum(day.rain >= wet_from for day in days),
    "rain_mm": round(sum(day.rain for day in days), 1),
    "rain_so_far_mm": [round(total, 1) for total in accumulate(day.rain for day in days)],
    "rain_by_month_mm": [round(sum(day.rain for day in month), 1) for month in months],
    "high_mean": round(sum(day.high for day in days) / len(days), 1),
}
target.write_text(json.dumps(summary))
tell(**{name: summary[name] for name in ("year", "days", "wet_days", "rain_mm", "high_mean")})
