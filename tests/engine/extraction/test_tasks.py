"""The order of the extractors' tasks: documents first, then pages, and a document again when its pages are read."""

import pytest

from dagster_offload.engine.extraction.tasks import Document, Tasks
from dagster_offload.ledger.core.rows import Claim


def document(number: int) -> Document:
    claim = Claim(token=number, document_id=number, document=f"{number}.pdf", is_alone=False, text=None, items=())
    return Document(claim, {})


def taken(tasks: Tasks[str], count: int) -> list[tuple[str, int | None]]:
    tasks_taken = [tasks.take() for _ in range(count)]
    return [(task[0].claim.document, task[1]) for task in tasks_taken if task is not None]


@pytest.mark.rule("extract-1")
def test_documents_come_before_pages_and_pages_in_order() -> None:
    tasks = Tasks[str]()
    tasks.add_pages(document(1), [1, 2])
    tasks.add_pages(document(2), [7])
    assert taken(tasks, 1) == [("1.pdf", 1)]
    tasks.add(document(3))
    assert taken(tasks, 3) == [("3.pdf", None), ("1.pdf", 2), ("2.pdf", 7)]
    assert (tasks.in_pages, tasks.pages) == (2, 0)


def test_a_document_is_a_task_again_when_its_last_page_is_read() -> None:
    tasks, book = Tasks[str](), document(1)
    tasks.add_pages(book, [1, 2])
    taken(tasks, 2)
    assert tasks.page_ended(book, None, 2.0) is None
    assert tasks.in_pages == 1
    assert tasks.page_ended(book, None, 3.0) is None
    assert (tasks.in_pages, book.seconds) == (0, 5.0)
    assert taken(tasks, 1) == [("1.pdf", None)]


def test_a_fault_ends_the_document_when_the_pages_that_were_begun_have_ended() -> None:
    tasks, book = Tasks[str](), document(1)
    tasks.add_pages(book, [1, 2, 3])
    taken(tasks, 2)
    assert tasks.page_ended(book, "a page hangs", 2.0) is None
    assert tasks.pages == 0
    assert tasks.page_ended(book, None, 3.0) == "a page hangs"
    assert tasks.in_pages == 0


def test_no_page_begins_when_all_are_ended_and_those_that_were_begun_end_with_the_fault() -> None:
    tasks, book = Tasks[str](), document(1)
    tasks.add_pages(book, [1, 2, 3])
    tasks.add_pages(document(2), [1])
    taken(tasks, 1)
    assert [ended.claim.document for ended in tasks.end_pages("lost")] == ["2.pdf"]
    assert (tasks.in_pages, tasks.pages) == (1, 0)
    assert tasks.page_ended(book, None, 2.0) == "lost"
    assert tasks.in_pages == 0


def test_only_documents_that_no_lane_has_begun_are_taken_back() -> None:
    tasks, book = Tasks[str](), document(1)
    tasks.add_pages(book, [1])
    tasks.add_pages(document(2), [1, 2])
    taken(tasks, 1)
    tasks.page_ended(book, None, 2.0)  # its pages are read
    tasks.add(document(3))
    assert [claim.document for claim in tasks.take_unstarted()] == ["3.pdf"]
    assert taken(tasks, 2) == [("1.pdf", None), ("2.pdf", 1)]


def test_closed_tasks_end_every_lane_though_some_are_left() -> None:
    tasks = Tasks[str]()
    tasks.add(document(1))
    tasks.close()
    assert tasks.take() is None
