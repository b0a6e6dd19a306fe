"""What `Logs` owes, on the files of this machine, CloudWatch Logs, and what EMR copies to S3."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from shared.errors import InvalidInput, NotFound
from shared.ids import Handle, JobName, RunId
from shared.ports import LogPage
from tests.contract.conftest import AWS
from tests.contract.output_worlds import (
    CloudWatchWriter,
    ContainerWriter,
    EmrWriter,
    OwnClusterWriter,
    ProcessWriter,
    ServerlessWriter,
    Writer,
    texts,
)

WRITERS = ["process", "cloudwatch", "container", "emr", "own cluster", "serverless"]
LINE_BYTES_MAX = 1 << 16


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Any]]:
    with mock_aws():
        found = {name: boto3.client(name, **AWS) for name in ("logs", "s3")}  # type: ignore[call-overload]
        found["s3"].create_bucket(Bucket="output", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield found


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Writer:
    if request.param == "process":
        return ProcessWriter(tmp_path)
    clients: dict[str, Any] = request.getfixturevalue("clients")
    match request.param:
        case "cloudwatch":
            return CloudWatchWriter(clients["logs"])
        case "container":
            return ContainerWriter(clients["logs"])
        case "emr":
            return EmrWriter(clients["s3"], "output")
        case "own cluster":
            return OwnClusterWriter(clients["s3"], "output")
        case _:
            return ServerlessWriter(clients["s3"], "output")


def test_lines_come_in_the_order_they_were_written_and_say_when_they_were_there(writer: Writer) -> None:
    before = datetime.now(UTC) - timedelta(minutes=11)
    writer.write("one", "", "  two  ", "drei – ‽")
    lines, _ = writer.all()
    assert texts(lines) == ["one", "", "  two  ", "drei – ‽"]
    assert all(before < line.at < datetime.now(UTC) + timedelta(seconds=5) for line in lines)
    assert {line.host for line in lines} == {""}


def test_standard_output_and_error_are_told_apart(writer: Writer) -> None:
    writer.write("one", "two")
    writer.write("wrong", stream="err")
    lines, _ = writer.all()
    assert sorted(texts(lines)) == ["one", "two", "wrong"]
    if writer.tells_apart:
        assert {line.text: line.stream for line in lines} == {"one": "out", "two": "out", "wrong": "err"}
        assert texts(writer.all(stream="out")[0]) == ["one", "two"]
        assert texts(writer.all(stream="err")[0]) == ["wrong"]


def test_pages_lose_and_repeat_nothing_whatever_their_size(writer: Writer) -> None:
    for begin in range(0, 60, 20):
        writer.write(*(f"out {number}" for number in range(begin, begin + 20)))
        writer.write(*(f"err {number}" for number in range(begin, begin + 20)), stream="err")
    for bytes_max in (1, 100, 1_000, 1_000_000):
        found = texts(writer.all(bytes_max=bytes_max)[0])
        for name in ("out", "err"):
            assert [one for one in found if one.startswith(name)] == [f"{name} {number}" for number in range(60)]


def test_a_page_is_about_as_large_as_asked_for(writer: Writer) -> None:
    writer.write(*("x" * 99 for _ in range(200)))
    page = writer.page(bytes_max=2_000)
    assert 1 <= len(page.lines) <= 21
    assert not page.complete


def test_a_tail_goes_on_where_it_was_while_more_is_written(writer: Writer) -> None:
    found, cursor = [], ""
    for number in range(4):
        writer.write(f"{number}")
        if number > 1:
            writer.write(f"wrong {number}", stream="err")
        lines, page = writer.all(cursor)
        found += texts(lines)
        cursor = page.cursor
        assert not page.complete
        assert writer.page(cursor) == LogPage((), cursor, complete=False)
    assert sorted(found) == ["0", "1", "2", "3", "wrong 2", "wrong 3"]


def test_output_that_comes_after_the_end_is_still_read(writer: Writer) -> None:
    writer.write("before")
    lines, page = writer.all()
    writer.end()
    writer.write("after")
    writer.now += writer.settle
    later, last = writer.all(page.cursor)
    assert texts(lines) + texts(later) == ["before", "after"]
    assert last.complete
    assert writer.page(last.cursor).complete


def test_output_is_complete_only_when_what_is_under_way_must_have_come(writer: Writer) -> None:
    writer.write("one")
    assert not writer.all()[1].complete
    writer.end()
    if writer.settle:
        writer.now += writer.settle / 2
        assert not writer.all()[1].complete
    writer.now += writer.settle
    assert writer.all()[1].complete
    assert not writer.page(bytes_max=1).complete or len(writer.page(bytes_max=1).lines) == 1


def test_each_attempt_has_output_of_its_own(writer: Writer) -> None:
    writer.write("first")
    writer.end()
    writer.write("second", attempt=2)
    assert texts(writer.all(attempt=1)[0]) == ["first"]
    assert texts(writer.all(attempt=2)[0]) == ["second"]


def test_why_there_is_no_output_is_said(writer: Writer) -> None:
    writer.end()
    writer.now += writer.settle
    with pytest.raises(NotFound, match=r"no output|nothing"):
        writer.page()


def test_a_cursor_is_opaque_and_fits_an_address(writer: Writer) -> None:
    writer.write(*(f"{number}" for number in range(100)))
    writer.write("wrong", stream="err")
    for bytes_max in (1, 500, 100_000):
        cursor = writer.page(bytes_max=bytes_max).cursor
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,1000}", cursor)


@pytest.mark.parametrize("cursor", ["x", "-", "__", "1-2-3-4-5", "../../etc", "00-0-0_", "9" * 999, "\0", "½"])
def test_a_cursor_of_something_else_is_refused(writer: Writer, cursor: str) -> None:  # fault 57
    writer.write("one")
    with pytest.raises(InvalidInput):
        writer.page(cursor)


def test_a_long_line_is_shown_in_pieces(writer: Writer) -> None:  # fault 28
    text = "".join(chr(97 + number % 26) for number in range(3 * LINE_BYTES_MAX + 10))
    writer.write(text, "next")
    writer.end()
    writer.now += writer.settle
    lines, _ = writer.all(bytes_max=1)
    assert max(len(line.text) for line in lines) <= LINE_BYTES_MAX
    assert "".join(texts(lines)) == f"{text}next"


def test_megabytes_are_read_by_the_page(writer: Writer) -> None:  # fault 28
    for _ in range(2):
        writer.write(*(f"{number:06}" + "x" * 93 for number in range(10_000)))
    page = writer.page(bytes_max=100_000)
    assert 0 < sum(len(line.text) for line in page.lines) <= 100_000 + LINE_BYTES_MAX
    page = writer.page(page.cursor, bytes_max=100_000)
    assert page.lines[0].text.startswith(f"{len(writer.page(bytes_max=100_000).lines):06}")


def test_bytes_that_are_no_text_are_replaced(writer: Writer) -> None:  # fault 28
    if not writer.bytes_pass:
        pytest.skip("what sends it to CloudWatch replaces them")
    writer.write("a\udcff\udcfeb")
    assert texts(writer.all()[0]) == ["a\ufffd\ufffdb"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "load/../../other", "", ".", "a\0b", "*"])
def test_hostile_names_lead_nowhere(writer: Writer, name: str) -> None:  # fault 57
    writer.write("secret")
    writer.end()
    writer.now += writer.settle
    for other in ({"job": JobName(name)}, {"run": RunId(f"{name}@1")}):
        source = replace(writer.source(), handle=Handle(name or "x"), **other)
        try:
            page = writer.logs.page(source, stream=None, cursor="", bytes_max=1_000)
        except NotFound:
            continue
        assert page.lines == ()
