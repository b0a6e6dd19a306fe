"""What tests have measured is printed after they have passed: `record_property(MEASURED, "a line")`.

Here and not beside those tests, because with several workers it is their parent that prints, and it loads nothing deeper.
"""

import pytest

MEASURED = "measured"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for one in terminalreporter.getreports("passed") if one.when == "call"]
    lines = [value for report in reports for name, value in report.user_properties if name == MEASURED]
    if lines:
        terminalreporter.section("measured, not asserted")
        for line in lines:
            terminalreporter.line(str(line))
