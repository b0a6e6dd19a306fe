"""The main path while every call is held to the policies of the template: what functions are not granted, they do not need."""

from pathlib import Path

import pytest

from shared.ids import RunId
from tests.e2e.conftest import deployment
from tests.e2e.documents import container, noted, script, workflow

pytestmark = pytest.mark.slow


def test_the_main_path_needs_no_right_that_the_template_does_not_grant(assembly: Path, tmp_path: Path) -> None:
    with deployment(assembly, checks_access=True) as deployed:
        document = workflow(
            "granted",
            container("a", noted(tmp_path)),
            script("b", noted(tmp_path), guards=tmp_path / "guards", after=["a"]),
        )
        (shown,) = deployed.ended(deployed.run(document))
        assert shown["status"] == "succeeded", shown
        deployed.until(lambda: deployed.parts.views.get_run(RunId(shown["run"])), "the relay may keep views")
        deployed.sweep()
        assert (tmp_path / "b").read_text() == "1\n"
        assert deployed.violations() == []
