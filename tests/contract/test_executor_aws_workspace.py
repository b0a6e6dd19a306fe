"""Files of attempts in S3: the same bounds as on one machine, and nothing that a name could break."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared.errors import TargetRefused, TargetUnavailable
from shared.executors import workspace as on_aws
from shared.executors.aws import failure_of
from shared.executors.process import OUTPUTS_BYTES_MAX
from shared.executors.process.evidence import inside
from shared.executors.workspace import Unfit, Workspace, input_lines, json_object, read_result
from tests.compute import Compute
from tests.contract.aws_targets import BUCKET, client, workspace

PATHS = ["a", "a/b.c", "/a", "../a", "a/../b", "", "a//b", "a\0", "./a", "ä"]


@pytest.fixture
def space() -> Iterator[Workspace]:
    with Compute() as compute:
        yield workspace(compute)


def test_the_bounds_are_those_of_one_machine() -> None:
    assert on_aws.OUTPUTS_BYTES_MAX == OUTPUTS_BYTES_MAX
    for path in PATHS:
        assert _answer(on_aws.inside, path) == _answer(inside, path)


def test_what_was_put_is_there_and_what_was_not_is_none(space: Workspace) -> None:
    space.put("a@b/c/1/result", b"x" * 100)
    assert space.get("a@b/c/1/result", last_bytes=10) == b"x" * 10
    assert space.get("a@b/c/1/nothing", last_bytes=10) is None
    space.put("a@b/c/1/empty", b"")
    assert space.get("a@b/c/1/empty", last_bytes=10) == b""
    space.copy(f"s3://{BUCKET}/a@b/c/1/result", "a@b/c/1/copy ü")
    assert sorted(space.list("a@b/c/1/")) == ["copy ü", "empty", "result"]
    with pytest.raises(TargetRefused, match="not there"):
        space.copy(f"s3://{BUCKET}/nothing", "x")


def test_a_store_that_cannot_be_reached_means_later() -> None:
    compute = Compute()
    compute.__enter__()
    space = Workspace(client(compute, "s3"), BUCKET)
    compute.close()
    with pytest.raises(TargetUnavailable):
        space.get("x", last_bytes=1)


def test_line_breaks_cannot_make_one_input_into_two(space: Workspace) -> None:
    with pytest.raises(TargetRefused, match="line break"):
        input_lines([{"path": "a\nb", "s3": "s3://x/y"}], space)
    lines = input_lines([{"path": "a", "content": "1\n2"}, {"path": "b", "artifact": "runs/x"}], space)
    assert lines.splitlines() == ["content", "MQoy", "a", "", "s3", f"s3://{BUCKET}/runs/x", "b", ""]


@pytest.mark.parametrize("text", [b"[1]", b"{", b'{"a": NaN}', b"\xff", b"[" * 60_000, b" " * 70_000])
def test_outputs_that_are_none_are_named(text: bytes) -> None:  # fault 55
    with pytest.raises(Unfit):
        json_object(text)


def test_a_result_names_what_was_found(space: Workspace) -> None:
    declared: list[dict[str, Any]] = [{"path": "a"}, {"path": "b", "optional": True}]
    outputs, files = read_result(b'kept\nfound a\n\n{"x": "\\n\\n"}', declared, {"a": "s3://a", "b": "s3://b"})
    assert (outputs, files) == ({"x": "\n\n"}, {"a": "s3://a"})
    assert read_result(b"kept\nfound a\n\n", declared, {"a": "s3://a", "b": ""})[0] == {}


def test_errors_that_nobody_foresaw_are_silence() -> None:
    assert type(failure_of(RuntimeError("?"), "do it")).__name__ == "TargetSilent"


def _answer(check: Any, path: str) -> str:
    try:
        return str(check(path))
    except TargetRefused as error:
        return f"refused: {error}"
