"""The served API against the description it serves: whatever schemathesis makes up, there is no 5xx and no answer that is not
described. `RUNFOLD_FUZZ_CASES` sets how many requests there are.
"""

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)

from functions.api import routes
from functions.api.embedded import serve_home
from local.home import Home
from shared.ids import keyed_run
from tests.functions.api_world import LAB_NAME, SALES_NAME, copies, make_apart

CASES = int(os.environ.get("RUNFOLD_FUZZ_CASES", "500"))
"""Half of them each operation alone, half as stories of several."""
STEPS = 6

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    use_after_free,
]

KNOWN: dict[str, list[Any]] = {
    "workflow": ["sales", "lab"],
    "run": [keyed_run(SALES_NAME, "first"), keyed_run(LAB_NAME, "first")],
    "job": ["extract", "load", "try", "tell"],
    "version": [1],
    "attempt": [1],
}
"""Names that are there: made-up ones alone would only ever be not found."""

quick = settings(
    database=None,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_apart(tmp_path_factory.mktemp("fuzzed") / "home")


@pytest.fixture(scope="module")
def served(made_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_home(
        Home(copies(made_home, tmp_path_factory.mktemp("served"))()), port=0, wait_seconds_max=0.01
    ) as serving:
        yield serving.url


@pytest.fixture(scope="module")
def schema(served: str) -> Any:
    # Read as everybody does who is told the address only.
    with urllib.request.urlopen(f"{served}/v1/openapi.json") as answer:
        described = json.load(answer)
    # This engine is open to its machine; who may do what has tests of its own.
    del described["security"]
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=served)
    schema.config.checks.negative_data_rejection.expected_statuses += ["414"]
    return schema


@pytest.mark.slow
@pytest.mark.parametrize("operation", [route.operation for route in routes.ROUTES])
def test_no_request_to_an_operation_breaks_it_or_its_description(schema: Any, served: str, operation: str) -> None:
    described = schema.find_operation_by_id(operation)
    cases = max(CASES // 2 // len(routes.ROUTES), 2)
    modes = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])

    with requests.Session() as session:

        @settings(quick, max_examples=cases)
        @given(
            case=modes.flatmap(lambda mode: described.as_strategy(generation_mode=mode)),
            known=st.fixed_dictionaries({name: st.none() | st.sampled_from(names) for name, names in KNOWN.items()}),
        )
        def ask(case: Any, known: dict[str, Any]) -> None:
            replaced = {name: value for name, value in known.items() if value is not None}
            for name in case.path_parameters or {}:
                if name in replaced and case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
                    case.path_parameters[name] = replaced[name]
            case.call_and_validate(base_url=served, session=session, checks=CHECKS)

        ask()


@pytest.mark.slow
def test_no_story_of_requests_breaks_it_or_its_description(
    schema: Any, made_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fresh = copies(made_home, tmp_path_factory.mktemp("stories"))
    machine = schema.as_state_machine()

    class Story(machine):  # type: ignore[misc, valid-type]
        def setup(self) -> None:
            # What one story did must not be there for the next one: it would not be the same story again.
            self.path = fresh()
            self.served = ExitStack()
            self.url = self.served.enter_context(serve_home(Home(self.path), port=0, wait_seconds_max=0.01)).url

        def teardown(self) -> None:
            self.served.close()
            shutil.rmtree(self.path.parent)

        def validate_response(self, response: Any, case: Any, **more: Any) -> None:
            case.validate_response(response, checks=CHECKS)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": self.url}

    Story.run(settings=settings(quick, max_examples=max(CASES // 2 // STEPS, 2), stateful_step_count=STEPS))
