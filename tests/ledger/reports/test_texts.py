"""What a stage reads of documents, also one that the ledger does not have."""

from dagster_offload.ledger.reports import texts
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, StageNode
from tests.support.ledger import Bench


def test_a_stage_of_a_draft_reads_the_documents_that_are_there(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    draft = StageNode("draft", EXTRACT)
    read = bench.ledger.run(texts.inputs_of, draft, ["a.txt"])
    assert list(read) == ["a.txt"]
    ids = bench.ledger.run(texts.ids_with_text)
    assert [key for key, _ in bench.ledger.run(texts.inputs_asked, draft, ids)] == ["a.txt", "b.txt"]
    conditional = StageNode("draft", EXTRACT, {CLASSIFY: {"category": ["invoice"]}})
    assert bench.ledger.run(texts.inputs_asked, conditional, ids) == [], "no class is known yet"
