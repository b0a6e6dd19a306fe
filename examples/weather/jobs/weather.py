"""The archive's file as Python values; shared by the jobs beside it."""

import csv
import json
import os
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Day:
    date: date
    rain: float
    """Millimetres."""
    high: float
    """Degrees Celsius, as `low`."""
    low: float

    @property
    def of_year(self) -> int:
        """0 to 365, the same for a date in every year: 29 February has a place of its own."""
        return self.date.replace(year=2012).timetuple().tm_yday - 1


def read_days(path: str) -> list[Day]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            Day(
                date=date.fromisoformat(row["date"].replace("/", "-")),
                rain=float(row["precipitation"]),
                high=float(row["temp_max"]),
                low=float(row["temp_min"]),
            )
            for row in csv.DictReader(file)
        ]


def tell(**outputs: object) -> None:
    """Leave JSON outputs for later jobs, and print them for whoever reads the log."""
    text = json.dumps(outputs)
    Path(os.environ["RUNFOLD_OUTPUTS"]).write_text(text, encoding="utf-8")
    print(text)


def pace() -> None:
    """Take as long as the run asks for, so that people can watch."""
    time.sleep(float(os.environ.get("PACE_SECONDS", "0")))
