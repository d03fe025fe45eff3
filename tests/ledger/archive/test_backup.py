"""A backup holds one moment of the ledger in one file, and restores completely or not at all."""

import json
import os
import stat
import struct
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive import file as archive_file
from dagster_offload.ledger.archive.backup import write_backup
from dagster_offload.ledger.archive.file import MANIFEST, open_archive
from dagster_offload.ledger.archive.restore import Incoming, Target, why_refused
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import current_step, make_steps, migrate, newest_step
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.events.outbox import count_pending
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, SUMMARIZE
from tests.support.archive import add_texts, contents, put_back, with_engine
from tests.support.engine import Engine

KEYS = ("a.txt", "b, 'quoted'\\.txt", "한글.txt")


def test_a_drain_before_and_after_backup_and_restore_repeats_no_call(
    engine: Engine, empty: Ledger, backup_file: Path, tmp_path: Path
) -> None:
    add_texts(engine, KEYS)
    engine.drain(limit=2)
    write_backup(engine.ledger, backup_file)
    before = engine.asked()
    assert len(before) == 4

    put_back(empty, backup_file)
    restored = with_engine(engine, empty, tmp_path / "second")
    assert restored.drain().done == 1

    asked = engine.asked()
    assert asked[:4] == before
    assert len(asked) == len(set(asked)) == 6
    assert {restored.counts(stage).done for stage in (CLASSIFY, SUMMARIZE)} == {3}
    add_texts(restored, ["new.txt"])  # identity columns and sequences continue after the restored rows
    assert restored.drain().done == 1


def test_a_restored_ledger_has_every_row_of_the_old_one(engine: Engine, empty: Ledger, backup_file: Path) -> None:
    add_texts(engine, KEYS)
    engine.drain()
    engine.sql("update outbox set told_at = now()")
    engine.sql("update workers set ended_at = now() where ended_at is null")
    write_backup(engine.ledger, backup_file)
    put_back(empty, backup_file)
    before, after = contents(engine.ledger), contents(empty)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"outbox"}
    assert empty.run(count_pending) == 9, "every result is reported to a new Dagster again"


@pytest.mark.rule("backup-1")
def test_a_backup_sees_one_moment_although_others_write_meanwhile(
    engine: Engine, empty: Ledger, backup_file: Path
) -> None:
    add_texts(engine, ["a.txt"])

    def write_more(_table: str, _rows: int) -> None:
        if not engine.sql("select key from documents where key = 'late.txt'"):
            add_texts(engine, ["late.txt"])

    manifest = write_backup(engine.ledger, backup_file, on_progress=write_more)
    assert engine.sql("select key from documents order by key") == [{"key": "a.txt"}, {"key": "late.txt"}]
    put_back(empty, backup_file)
    with empty.transaction() as cur:
        assert cur.execute("select key from documents").fetchall() == [{"key": "a.txt"}]
    assert manifest.rows("documents") == 1


def test_claims_of_workers_that_ran_during_the_backup_are_free_again_and_cost_nothing(
    engine: Engine, empty: Ledger, backup_file: Path
) -> None:
    add_texts(engine, ["a.txt"])
    with Worker(engine.ledger, "drain"):
        engine.sql(
            "update work_items set state = 'claimed', worker_id = (select max(worker_id) from workers), token = 7 "
            "where stage = 'classify'"
        )
        write_backup(engine.ledger, backup_file)
        engine.sql("update work_items set state = 'pending' where stage = 'classify'")
    put_back(empty, backup_file)
    with empty.transaction() as cur:
        cur.execute("select state, worker_id, attempts, reclaims from work_items where stage = 'classify'")
        assert cur.fetchall() == [{"state": "pending", "worker_id": None, "attempts": 0, "reclaims": 0}]
        assert cur.execute("select worker_id from workers where ended_at is null").fetchall() == []


def test_only_the_owner_can_read_the_file_and_nothing_else_is_left_in_the_folder(
    engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    umask = os.umask(0)
    try:
        write_backup(engine.ledger, folder / "a.backup")
    finally:
        os.umask(umask)
    assert [path.name for path in folder.iterdir()] == ["a.backup"]
    assert stat.S_IMODE((folder / "a.backup").stat().st_mode) == 0o600


def test_an_existing_file_is_never_replaced(engine: Engine, backup_file: Path) -> None:
    backup_file.write_text("a letter")
    with pytest.raises(BackupError, match="exists already"):
        write_backup(engine.ledger, backup_file)
    assert backup_file.read_text() == "a letter"


def test_a_folder_that_does_not_exist_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"missing/a\.backup cannot be written: No such file or directory"):
        write_backup(engine.ledger, tmp_path / "missing" / "a.backup")


def test_a_database_without_a_ledger_has_nothing_to_back_up(empty: Ledger, backup_file: Path) -> None:
    with pytest.raises(BackupError, match="no ledger"):
        write_backup(empty, backup_file)
    assert not backup_file.exists()


# --- damage ----------------------------------------------------------------------------------------------------------


def rewritten(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """The archive with other contents of some members; None leaves a member out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = changes.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def manifest_of(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as zipped:
        manifest: dict[str, Any] = json.loads(zipped.read(MANIFEST))
        return manifest


@pytest.mark.rule("backup-2")
def test_a_changed_row_is_noticed_before_anything_is_written(
    engine: Engine, empty: Ledger, backup_file: Path, tmp_path: Path
) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    with zipfile.ZipFile(backup_file) as zipped:
        rows = zipped.read("ledger/documents.copy")
    forged = rewritten(backup_file, tmp_path / "forged", {"ledger/documents.copy": rows.replace(b"a.txt", b"b.txt")})
    with pytest.raises(BackupError, match=r"damaged: ledger/documents\.copy"):
        put_back(empty, forged)
    with empty.transaction() as cur:
        assert current_step(cur, empty.schema) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(engine: Engine, empty: Ledger, backup_file: Path, share: float) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    os.truncate(backup_file, int(backup_file.stat().st_size * share))
    with pytest.raises(BackupError, match=r"damaged|not a backup"):
        put_back(empty, backup_file)


def test_flipped_bytes_are_refused(engine: Engine, empty: Ledger, backup_file: Path) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    whole = bytearray(backup_file.read_bytes())
    with zipfile.ZipFile(backup_file) as zipped:
        header = zipped.getinfo("ledger/results.copy").header_offset
    name_length, extra_length = struct.unpack_from("<HH", whole, header + 26)
    start = header + 30 + name_length + extra_length + 10  # inside the compressed rows
    whole[start : start + 8] = bytes(255 - byte for byte in whole[start : start + 8])
    backup_file.write_bytes(whole)
    with pytest.raises(BackupError, match="damaged"):
        put_back(empty, backup_file)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"format": 1}'])
def test_a_file_without_our_manifest_is_no_backup(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.zip"
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr(MANIFEST, content)
    with pytest.raises(BackupError, match="not a backup"), open_archive(file):
        pass


def test_a_later_format_is_named(engine: Engine, backup_file: Path, tmp_path: Path) -> None:
    write_backup(engine.ledger, backup_file)
    later = json.dumps(manifest_of(backup_file) | {"format": archive_file.FORMAT + 1}).encode()
    file = rewritten(backup_file, tmp_path / "later", {MANIFEST: later})
    with pytest.raises(BackupError, match="upgrade dagster_offload"), open_archive(file):
        pass


@pytest.mark.rule("backup-2")
def test_a_failure_in_the_middle_of_a_restore_changes_nothing(
    engine: Engine, empty: Ledger, backup_file: Path, tmp_path: Path
) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    bad = b"not\ta\trow\n"
    manifest = manifest_of(backup_file)
    for entry in manifest["tables"]:
        if entry["name"] == "work_items":
            counted = archive_file.Counted([bad])
            assert list(counted) == [bad]
            entry.update(rows=counted.rows, bytes=counted.bytes, sha256=counted.sha256)
    forged = rewritten(
        backup_file, tmp_path / "forged", {"ledger/work_items.copy": bad, MANIFEST: json.dumps(manifest).encode()}
    )
    with pytest.raises(BackupError, match=r"forged does not fit its own tables: .*bigint"):
        put_back(empty, forged)
    with empty.transaction() as cur:
        assert current_step(cur, empty.schema) is None
        assert cur.execute("select to_regnamespace(%s) as found", [empty.schema]).fetchone() == {"found": None}


def test_names_in_the_manifest_are_never_run_as_sql(
    engine: Engine, empty: Ledger, backup_file: Path, tmp_path: Path
) -> None:
    write_backup(engine.ledger, backup_file)
    manifest = manifest_of(backup_file)
    hostile = 'documents"; drop table x; --'
    for entry in manifest["tables"]:
        if entry["name"] == "documents":
            entry["name"] = hostile
    with zipfile.ZipFile(backup_file) as zipped:
        rows = zipped.read("ledger/documents.copy")
    forged = rewritten(backup_file, tmp_path / "forged", {MANIFEST: json.dumps(manifest).encode()})
    with zipfile.ZipFile(forged, "a") as zipped:
        zipped.writestr(f"ledger/{hostile}.copy", rows)
    with pytest.raises(BackupError, match="does not know"):
        put_back(empty, forged)


# --- what is there already -------------------------------------------------------------------------------------------


@pytest.mark.rule("backup-2")
def test_a_ledger_with_data_is_only_replaced_on_request(engine: Engine, empty: Ledger, backup_file: Path) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    add_texts(engine, ["later.txt"])
    with pytest.raises(BackupError, match="--replace"):
        put_back(engine.ledger, backup_file)
    assert len(engine.sql("select key from documents")) == 2
    put_back(engine.ledger, backup_file, may_replace=True)
    assert engine.sql("select key from documents") == [{"key": "a.txt"}]


def test_a_migrated_ledger_without_documents_counts_as_empty(engine: Engine, empty: Ledger, backup_file: Path) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    migrate(empty, BUILT_IN)
    put_back(empty, backup_file)
    with empty.transaction() as cur:
        assert cur.execute("select key from documents").fetchall() == [{"key": "a.txt"}]


def test_a_ledger_in_use_is_not_replaced(engine: Engine, backup_file: Path) -> None:
    write_backup(engine.ledger, backup_file)
    with Worker(engine.ledger, "drain"), pytest.raises(BackupError, match=r"drain .* uses the ledger .*stop"):
        put_back(engine.ledger, backup_file, may_replace=True)


def test_a_backup_of_an_older_step_is_restored_and_migrated(empty: Ledger, engine: Engine, backup_file: Path) -> None:
    with empty.transaction() as cur:
        cur.execute(f"create schema {empty.schema}".encode())
        make_steps(cur, up_to=12)
        cur.execute("insert into documents (key, size, mtime_ns, ctime_ns, inode) values ('old.txt', 1, 1, 1, 1)")
    assert write_backup(empty, backup_file).step == 12
    put_back(engine.ledger, backup_file, may_replace=True)
    assert engine.sql("select key from documents") == [{"key": "old.txt"}]
    with engine.ledger.transaction() as cur:
        assert current_step(cur, engine.ledger.schema) == newest_step()
    migrate(engine.ledger, BUILT_IN)


def test_the_steps_are_those_of_the_files() -> None:
    files = [entry.name for entry in resources.files("dagster_offload.ledger").joinpath("migrations").iterdir()]
    assert newest_step() == max(int(name[:4]) for name in files if name.endswith(".sql"))


@pytest.mark.parametrize(
    ("target", "incoming", "reason"),
    [
        (Target(None, False, False, ()), Incoming(15, False), None),
        (Target(None, False, False, ()), Incoming(16, False), "newer dagster_offload"),
        (Target(16, False, False, ()), Incoming(15, False), "newer dagster_offload"),
        (Target(15, True, False, ()), Incoming(15, False), "--replace"),
        (Target(15, False, True, ()), Incoming(15, False), None),
        (Target(15, False, True, ()), Incoming(15, True), "--replace"),
        (Target(15, False, False, ("drain (process 7 on box)",)), Incoming(15, False), "process 7 on box"),
    ],
)
def test_why_a_copy_is_refused(target: Target, incoming: Incoming, reason: str | None) -> None:
    found = why_refused(target, incoming, newest_step=15, may_replace=False)
    assert found is None if reason is None else reason in str(found)
