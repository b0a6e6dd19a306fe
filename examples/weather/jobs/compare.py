"""Put the years' files side by side: `compare.py TARGET`, with one `YEAR.json` for each year in the working directory."""

import json
import sys
from pathlib import Path

from weather import pace, tell

pace()
years = [json.loads(path.read_text()) for path in sorted(Path().glob("[0-9][0-9][0-9][0-9].json"))]
Path(sys.argv[1]).write_text(json.dumps(years))
tell(
    years=[year["year"] for year in years],
    wet_days=sum(year["wet_days"] for year in years),
    wettest_year=max(years, key=lambda year: year["rain_mm"])["year"],
)
