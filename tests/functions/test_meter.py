"""The meter of the cost benchmark, held to DynamoDB's rules; the benchmark's own tables, held to moto."""

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from bench.cost import GROUPED, Measured, diamond, measure
from bench.deployed import ENVIRONMENT, SCHEMAS, on_moto
from bench.meter import Meter, read_units, size_of, write_units
from shared.errors import Conflict
from shared.ids import CommitId, StreamName
from shared.ports import Record
from shared.stores.dynamodb import DynamoDues, DynamoStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = StreamName("run#nightly@1")


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with on_moto():
        yield Meter(SCHEMAS)


def client(meter: Meter) -> Any:
    return meter.watch(boto3.client("dynamodb"))


def commit(version: int, *, commit_id: str = "mine", body: str = "[]") -> Record:
    return Record(RUN, version, CommitId(commit_id), NOON, "ann", "test", "0" * 64, "1" * 64, body)


def test_an_items_size_is_that_of_its_names_and_values() -> None:
    assert size_of({"stream": {"S": "run#ä"}, "version": {"N": "1234"}, "body": {"B": b"123"}}) == 12 + 10 + 7


def test_writes_go_by_whole_kilobytes_and_reads_by_four_of_them() -> None:
    assert [write_units(size) for size in (0, 1, 1024, 1025, 4096)] == [1, 1, 1, 2, 4]
    assert [read_units(size, consistent=True) for size in (0, 4096, 4097)] == [1, 1, 2]
    assert [read_units(size, consistent=False) for size in (0, 4096, 4097)] == [0.5, 0.5, 1]


def test_a_runs_first_commit_costs_its_index_entry_as_well(meter: Meter) -> None:
    store = DynamoStore(client(meter), "events")
    store.append(commit(1))
    assert meter.counts.units["write"] == 2
    store.append(commit(2, body="x" * 1000))
    assert meter.counts.units["write"] == 2 + 2
    assert meter.counts.units["commits"] == 2
    assert meter.counts.calls == {"dynamodb PutItem": 2}


def test_a_write_that_is_refused_costs_too(meter: Meter) -> None:
    store = DynamoStore(client(meter), "events")
    store.append(commit(1))
    with pytest.raises(Conflict):
        store.append(commit(1, commit_id="rival"))
    assert meter.counts.units["write refused"] == 1
    assert meter.counts.units["commits"] == 1


def test_a_due_row_costs_two_to_make_three_to_move_and_two_to_remove(meter: Meter) -> None:
    """docs/decisions/0002-stores.md"""
    dues = DynamoDues(client(meter), "views")
    spent = [meter.counts.units["write"]]
    later = NOON + timedelta(minutes=1)
    dues.lower(RUN, NOON)
    spent.append(meter.counts.units["write"])
    dues.raise_to(RUN, seen=NOON, at=later)
    spent.append(meter.counts.units["write"])
    dues.remove(RUN, seen=later)
    spent.append(meter.counts.units["write"])
    assert spent == [0, 2, 5, 7]


def test_reading_lately_costs_half(meter: Meter) -> None:
    store = DynamoStore(client(meter), "events")
    store.append(commit(1))
    assert store.read(RUN) == store.read_lately(RUN) == [commit(1)]
    assert meter.counts.units["read"] == 1 + 0.5


def test_the_benchmarks_tables_answer_as_motos_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of ten jobs from its request to its last due row: every call and every unit the same."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def measured(*, moto: bool) -> Measured:
        with redirect_stdout(io.StringIO()):
            return measure(GROUPED, [diamond("nightly", 4)], [0.0], moto=moto)

    quick, slow = measured(moto=False), measured(moto=True)
    assert quick.counts == slow.counts
    assert quick.invocations == slow.invocations
