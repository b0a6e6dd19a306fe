"""Asks the public vulnerability services about every locked dependency, with pip-audit.

Green means that each one was looked up and none is known to be vulnerable. What could not be looked up is said, and is no success:
pip-audit itself ends well when it was told nothing about a package.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VULNERABLE, NOT_CHECKED = 1, 3
SERVICES = ("pypi", "osv")
"""In this order: the second is asked when the first did not know every package."""
SECONDS_MAX = 600


def verdict(found: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """The exit code, and what to say, of what pip-audit lists under `dependencies`."""
    lines = [
        f"{one['name']} {one['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no release yet'}"
        for one in found
        for hole in one.get("vulns", ())
    ]
    skipped = [one["name"] for one in found if "skip_reason" in one or "vulns" not in one]
    if skipped or not found:
        unknown = ", ".join(skipped[:5]) + (f" and {len(skipped) - 5} more" if len(skipped) > 5 else "")
        lines.append(f"not checked: no network, or no answer about {unknown or 'anything'}")
        return (VULNERABLE if len(lines) > 1 else NOT_CHECKED), lines
    return (VULNERABLE, lines) if lines else (0, [f"{len(found)} packages, none known to be vulnerable"])


def audited(pip_audit: str, lock: Path, service: str) -> list[dict[str, Any]]:
    """What pip-audit says of the packages of a lock; nothing when it could not say anything."""
    words = ["--requirement", str(lock), "--require-hashes", "--disable-pip", "--vulnerability-service", service]
    done = subprocess.run(
        [pip_audit, *words, "--format", "json", "--progress-spinner", "off", "--timeout", "15"],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return []
    return found


def main(pip_audit: str, *locks: str) -> int:
    worst = 0
    for lock in map(Path, locks):
        code, lines = NOT_CHECKED, ["not checked"]
        for service in SERVICES:
            code, lines = verdict(audited(pip_audit, lock, service))
            if code != NOT_CHECKED:
                break
        for line in lines:
            print(f"{lock.name}: {line}")
        worst = code if worst in (0, NOT_CHECKED) and code else worst
    return worst


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
