"""What is peculiar to output that EMR copies: it comes late, in packed files, where others decided that it goes."""

import gzip
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from shared.errors import NotFound, TargetUnavailable
from shared.executors.emr_output import CHUNK_BYTES, COPIED_EVERY, SETTLE, STEPS_MAX, UNPACKED_BYTES_MAX, EmrLogs
from shared.ids import Handle, JobName, RunId
from shared.ports import LogSource
from tests.contract.conftest import AWS
from tests.contract.output_worlds import EmrWriter, OwnClusterWriter, ServerlessWriter, texts


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", **AWS)  # type: ignore[call-overload]
        client.create_bucket(Bucket="output", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield client


@pytest.fixture
def writer(s3: Any) -> EmrWriter:
    found = EmrWriter(s3, "output")
    found.steps[1] = ["s-1"]
    return found


class Refusing:
    """An AWS that answers everything with an error."""

    def __init__(self, code: str, status: int = 403) -> None:
        self._error = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise ClientError(self._error, name)  # type: ignore[arg-type]

        return call


def test_before_the_first_copy_the_answer_says_why_and_when(writer: EmrWriter) -> None:
    page = writer.page()
    assert (page.lines, page.complete) == ((), False)
    assert f"s3://output/{writer.prefix}/j-1/steps/ every 5 minutes" in page.absent
    assert f"{writer.now + COPIED_EVERY:%H:%M:%S} UTC" in page.absent
    writer.end()
    writer.now += timedelta(minutes=4)
    assert f"{writer.ended[1] + COPIED_EVERY:%H:%M:%S} UTC" in writer.page().absent
    writer.write("late")
    assert writer.page().absent == ""


def test_when_the_last_copy_must_have_come_there_is_none_to_wait_for(writer: EmrWriter) -> None:
    writer.end()
    writer.now += SETTLE
    with pytest.raises(NotFound, match="copied no output to s3://output/"):
        writer.page()


@pytest.mark.parametrize(
    ("uri", "words"),
    [("", "`LogUri`"), ("hdfs:///logs", "no place in S3"), ("s3://output-of-nobody/x", "is not there")],
)
def test_a_cluster_that_copies_nothing_here_says_so(s3: Any, uri: str, words: str) -> None:
    writer = EmrWriter(s3, "output", uri=uri)
    writer.steps[1] = ["s-1"]
    with pytest.raises(NotFound, match=words):
        writer.page()


def test_an_application_without_monitoring_in_s3_says_so(s3: Any) -> None:
    writer = ServerlessWriter(s3, "output", uri="")
    writer.steps[1] = [""]
    with pytest.raises(NotFound, match="S3 monitoring configuration"):
        writer.page()


def test_the_configuration_of_a_job_run_goes_before_that_of_its_application(s3: Any) -> None:
    writer = ServerlessWriter(s3, "output")
    writer.own = True
    writer.write("one")
    assert texts(writer.all()[0]) == ["one"]


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [("AccessDenied", NotFound, "name it in `log_buckets`"), ("SlowDown", TargetUnavailable, "SlowDown")],
)
def test_a_bucket_that_cannot_be_read_is_told_by_why(
    writer: EmrWriter, code: str, error: type[Exception], words: str
) -> None:
    logs = EmrLogs(lambda service: Refusing(code) if service == "s3" else writer, now=lambda: writer.now)
    with pytest.raises(error, match=words):
        logs.page(writer.source(), stream=None, cursor="", bytes_max=1_000)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [("InvalidRequestException", NotFound, "any more"), ("ThrottlingException", TargetUnavailable, "Throttling")],
)
def test_a_cluster_that_emr_has_forgotten_is_told_from_one_it_cannot_tell_of_now(
    writer: EmrWriter, code: str, error: type[Exception], words: str
) -> None:
    logs = EmrLogs(lambda _: Refusing(code, 400), now=lambda: writer.now)
    with pytest.raises(error, match=words):
        logs.page(writer.source(), stream=None, cursor="", bytes_max=1_000)


def test_helpers_and_steps_are_told_apart(writer: EmrWriter) -> None:
    writer.steps[1] = ["s-1", "s-2"]
    for step in (0, 1):
        for file in ("stdout", "stderr", "controller", "syslog", "other"):
            writer.copy(writer.key(file, step=step), f"{file} {step}\n")
    lines, _ = writer.all()
    assert [(line.host, line.stream, line.text) for line in lines] == [
        ("step 1", "out", "stdout 0"),
        ("step 1", "err", "stderr 0"),
        ("step 1 controller", "err", "controller 0"),
        ("step 1 syslog", "err", "syslog 0"),
        ("step 2", "out", "stdout 1"),
        ("step 2", "err", "stderr 1"),
        ("step 2 controller", "err", "controller 1"),
        ("step 2 syslog", "err", "syslog 1"),
    ]


def test_steps_of_a_cluster_of_its_own_are_read_in_the_order_they_ran(s3: Any) -> None:
    writer = OwnClusterWriter(s3, "output")
    writer.steps[1] = ["s-1", "s-2"]
    for step in (1, 0):
        writer.copy(writer.key("stdout", step=step), f"{step}\n")
    assert texts(writer.all()[0]) == ["0", "1"]


def test_a_cursor_of_the_most_files_fits(writer: EmrWriter) -> None:
    writer.steps[1] = [f"s-{number}" for number in range(STEPS_MAX + 3)]
    for step in range(STEPS_MAX + 3):
        for file in ("stdout", "stderr", "controller", "syslog"):
            writer.copy(writer.key(file, step=step), "x" * 2_000 + "\n")
    lines, page = writer.all(bytes_max=1_000_000)
    assert len(lines) == STEPS_MAX * 4
    assert len(page.cursor) <= 1_000


def test_an_earlier_file_that_grows_is_read_on(writer: EmrWriter) -> None:
    writer.write("out 1")
    writer.write("err 1", stream="err")
    lines, page = writer.all()
    writer.write("out 2")
    more, page = writer.all(page.cursor)
    assert (texts(lines), texts(more)) == (["out 1", "err 1"], ["out 2"])


def test_a_line_that_was_cut_by_a_copy_is_shown_whole(writer: EmrWriter) -> None:
    writer.copy(writer.key("stdout"), "one\ntw")
    lines, page = writer.all()
    writer.copy(writer.key("stdout"), "o\nthree")
    more, page = writer.all(page.cursor)
    writer.end()
    writer.now += SETTLE
    last, page = writer.all(page.cursor)
    assert (texts(lines), texts(more), texts(last)) == (["one"], ["two"], ["three"])
    assert page.complete


def test_a_small_file_that_unpacks_to_gigabytes_is_read_in_bounds(s3: Any, writer: EmrWriter) -> None:
    line = b"0" * (CHUNK_BYTES - 1) + b"\n"
    packed = gzip.compress(line * (1 << 8), compresslevel=1)
    # Sixteen mebibytes each, again and again.
    s3.put_object(Bucket="output", Key=writer.key("stdout"), Body=packed * 64)
    writer.end()
    writer.now += SETTLE
    count, cursor = 0, ""
    while (page := writer.page(cursor, bytes_max=UNPACKED_BYTES_MAX // 2)).lines:
        count += len(page.lines)
        cursor = page.cursor
    assert count == UNPACKED_BYTES_MAX // CHUNK_BYTES + 1
    assert page.complete


def test_what_cannot_be_shown_is_said_where_it_is(s3: Any, writer: EmrWriter) -> None:
    writer.copy(writer.key("stdout"), "x" * UNPACKED_BYTES_MAX)
    lines, _ = writer.all(bytes_max=2 * UNPACKED_BYTES_MAX)
    assert lines[-1].text.startswith("[only the first 64 MiB are shown here; everything is in s3://output/")


def test_a_damaged_file_is_read_as_far_as_it_goes(s3: Any, writer: EmrWriter) -> None:
    s3.put_object(Bucket="output", Key=writer.key("stdout"), Body=gzip.compress(b"one\ntwo\n") + b"\0rubbish")
    s3.put_object(Bucket="output", Key=writer.key("stderr"), Body=b"not packed at all\n")
    assert texts(writer.all()[0]) == ["one", "two"]


def test_emr_is_asked_once_where_a_cluster_writes(writer: EmrWriter) -> None:
    writer.write("one")
    writer.all()
    writer.all()
    assert writer.asked == ["DescribeCluster"]


@pytest.mark.parametrize(
    "handle",
    ["j-1/s-1/../../other", "j-1/../j-2", "arn:aws:emr-serverless:x:1:/applications/../jobruns/1", "c0ffee", ""],
)
def test_no_handle_leads_elsewhere(writer: EmrWriter, handle: str) -> None:  # fault 57
    source = LogSource(RunId("nightly@1"), JobName("load"), 1, "emr", Handle(handle))
    with pytest.raises(NotFound):
        writer.logs.page(source, stream=None, cursor="", bytes_max=1_000)


def test_an_attempt_that_nobody_took_wrote_nothing(s3: Any) -> None:
    writer = EmrWriter(s3, "output")
    assert writer.page() == writer.logs.page(writer.source(), stream=None, cursor="", bytes_max=1)
    writer.end()
    with pytest.raises(NotFound, match="no target is known"):
        writer.page()
