"""Bring the archive's file: `fetch.py SOURCE TARGET`.

The archive is busy whenever it is asked for the first time, as archives are at night: the first attempt fails, and the
second one succeeds. Deterministic, so that the example's retry is one that is really needed.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

source, target = Path(sys.argv[1]), Path(sys.argv[2])
attempt = int(os.environ["RUNFOLD_ATTEMPT"])

print(f"asking the archive for {source.name}", flush=True)
time.sleep(float(os.environ.get("PACE_SECONDS", "0")))
if attempt == 1:
    sys.exit("the archive answered 503: busy, try again later")

shutil.copyfile(source, target)
print(f"{target.stat().st_size:,} bytes")
Path(os.environ["RUNFOLD_OUTPUTS"]).write_text(json.dumps({"bytes": target.stat().st_size, "attempt": attempt}))
