"""Every test gets the command on a home of its own."""

from pathlib import Path

import pytest

from tests.cli.calling import Runfold


@pytest.fixture
def runfold(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runfold:
    for name in ("RUNFOLD_HOME", "RUNFOLD_USER", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Runfold(tmp_path, capfd)
