"""A process that writes to a SQLite file, for tests that need real processes: `python -m tests.contract.sqlite_writer`.

`race FILE NAME VERSIONS` waits for a line on stdin, then fights for every version of one stream and prints those it won.
`batches FILE` appends to three streams in batches for ever and prints after each batch how many commits are durable.
"""

import sys
from pathlib import Path

from shared.errors import Conflict
from shared.ids import RunId, run_stream
from shared.ports import Record
from shared.stores.sqlite import SqliteDatabase, SqliteDues, SqliteStore
from tests.contract.records import STREAM, commit_after, seconds

STREAMS = [run_stream(RunId(f"nightly@{number}")) for number in range(3)]


def race(path: Path, name: str, versions: int) -> None:
    with SqliteDatabase(path) as database:
        store = SqliteStore(database)
        print("ready", flush=True)
        sys.stdin.readline()
        seen: list[Record] = []
        while len(seen) < versions:
            record = commit_after(seen[-1] if seen else None, commit_id=f"{name}-{len(seen) + 1}")
            try:
                store.append(record)
            except Conflict:
                seen += store.read(STREAM, after=len(seen))
            else:
                seen.append(record)
                print(record.version, flush=True)


def batches(path: Path) -> None:
    with SqliteDatabase(path) as database:
        store, dues = SqliteStore(database), SqliteDues(database)
        heads: list[Record | None] = [None] * len(STREAMS)
        durable = 0
        while True:
            with store.batch():
                for number, stream in enumerate(STREAMS):
                    record = commit_after(heads[number], stream=stream)
                    dues.lower(stream, record.at + seconds(60))
                    store.append(record)
                    heads[number] = record
            durable += len(STREAMS)
            print(durable, flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["race", path, name, versions]:
            race(Path(path), name, int(versions))
        case ["batches", path]:
            batches(Path(path))
        case _:
            sys.exit(__doc__)
