"""Days far from normal: `unusual.py WEATHER NORMALS DEVIATIONS TARGET`."""

import csv
import json
import sys
from pathlib import Path

from weather import pace, read_days, tell

source, normals_path, threshold, target = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]

pace()
normals = json.loads(Path(normals_path).read_text())
found = []
for day in read_days(source):
    normal = normals[day.of_year]
    deviations = (day.high - normal["mean"]) / normal["spread"]
    if abs(deviations) >= threshold:
        found.append((day.date.isoformat(), day.high, round(normal["mean"], 1), round(deviations, 2)))
found.sort(key=lambda row: -abs(row[3]))

with Path(target).open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("date", "high", "normal", "deviations"))
    table.writerows(found)
most = {"date": found[0][0], "high": found[0][1], "normal": found[0][2]} if found else None
tell(count=len(found), most=most)
