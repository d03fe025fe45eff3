"""The patterns that recognize types take linear time, whatever the bytes are."""

import time
import zipfile
from io import BytesIO

from dagster_offload.extraction import readers
from dagster_offload.extraction.file_types.detection import detect_type

_SECONDS = 5  # of processor time: linear time is far less, quadratic or exponential time is far more


def test_a_graph_after_comments_is_recognized_in_linear_time() -> None:
    begun = time.thread_time()
    for beginning in (b"/**/", b"/* a * b **/ ", b"// a\n", b"/*"):
        assert readers._DOT_GRAPH.match(beginning * 100_000 + b"x") is None
    assert time.thread_time() - begun < _SECONDS
    for beginning in (b"", b" /* who\nreports **/\n// to whom\n", b"/**/" * 40 + b"strict "):
        assert readers._DOT_GRAPH.match(beginning + b"digraph staff {")


def test_a_list_of_content_types_is_searched_in_linear_time() -> None:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", '"application/' + "ms-word.ms-excel.ms-powerpoint." * 30_000)
    begun = time.thread_time()
    assert detect_type(made.getvalue()) is None
    assert time.thread_time() - begun < _SECONDS
