"""What a person meets after a refused scan: the command that confirms it and no other, and what `status` says of the library."""

import json
import os
import shlex
from pathlib import Path

from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.work import documents
from dagster_offload.settings import load_settings
from tests.support.cli import Call


def advised(error: str) -> list[str]:
    """The arguments of the command at the end of an error."""
    words = shlex.split(error[error.rindex("dagster-offload scan") :])
    return words[1:]


def test_the_command_that_a_refusal_names_confirms_the_library_that_was_typed_and_no_other(
    call: Call, scanned: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved here"
    moved.mkdir()
    (moved / "lease.txt").write_text("The lease is due in March.")
    for file in scanned.iterdir():  # the disk of the library in the settings is not mounted
        file.unlink()
    refused = call("scan", "--library", str(moved))
    assert refused.exit_code == 2
    os.environ["OFFLOAD_LIBRARY"] = str(scanned)  # the option is that of the refused command
    confirmed = call(*advised(refused.stderr))
    assert confirmed.exit_code == 0, confirmed.output
    with open_ledger(load_settings()) as ledger:
        assert ledger.run(documents.present_keys) == ["lease.txt"]
        last = ledger.run(identity.scanned_library)
    assert last is not None
    assert last.path == str(moved)


def test_status_says_that_an_empty_library_is_not_mounted_while_the_ledger_has_documents(
    call: Call, with_ledger: str, library: Path
) -> None:
    call("scan")
    for name in list(library.iterdir()):
        name.unlink()
    problem = json.loads(call("status", "--json").stdout)["library"]["problem"]
    assert problem.startswith("is empty, while the ledger has documents (if it is to be empty: dagster-offload scan ")
    assert problem.endswith(". Mount it, or set library.path (OFFLOAD_LIBRARY) to the folder of documents")
    call("scan", "--accept-vanished")
    assert json.loads(call("status", "--json").stdout)["library"]["problem"] is None
