"""What tests share: the worker that has the deployed template, and the lines that say what was measured.

`record_property(MEASURED, "a line")` in a test has that line printed when all have run. Here and not beside those tests, because with
several workers it is their parent that schedules and prints, and it loads nothing deeper.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships no types

MEASURED = "measured"
DEPLOYED = "tests/e2e/"
A_DEPLOYMENT_OF_ITS_OWN = "tests/e2e/test_access.py"


class DeployedTogether(LoadScopeScheduling):  # type: ignore[misc]
    """One worker has all tests of the deployed template, and begins with them, so that there is one deployment; the others have the
    rest meanwhile. (xdist's own groups work by renaming tests, which pytest 9 does not let it.)"""

    def _split_scope(self, nodeid: str) -> str:
        return DEPLOYED if nodeid.startswith(DEPLOYED) and not nodeid.startswith(A_DEPLOYMENT_OF_ITS_OWN) else nodeid


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist` is a way to debug
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DeployedTogether | None:
    return DeployedTogether(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for one in terminalreporter.getreports("passed") if one.when == "call"]
    lines = [value for report in reports for name, value in report.user_properties if name == MEASURED]
    if lines:
        terminalreporter.section("measured, not asserted")
        for line in lines:
            terminalreporter.line(str(line))
