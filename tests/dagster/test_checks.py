"""The asset check in words: how far the evidence for the served model goes."""

import pytest

from dagster_offload.defs.checks import assess

QWEN = r"Qwen3\.6-27B"


@pytest.mark.parametrize(
    ("evidence", "served", "expected", "passed", "words"),
    [
        ("reported", "mlx/Qwen3.6-27B-8bit", QWEN, True, "reported: `mlx/Qwen3.6-27B-8bit`, as expected"),
        ("reported", "tiny-1b", QWEN, False, "reported: `tiny-1b`, which does not match"),
        ("reported", "tiny-1b", None, True, "no expected model is set"),
        ("echoed", "qwen-macbook", QWEN, True, "which proves nothing"),
        ("echoed", "Qwen3.6-27B", QWEN, True, "which matches what is expected"),
        ("absent", None, QWEN, True, "nothing is verified"),
        (None, None, QWEN, True, "no model was asked"),
    ],
)
def test_the_verdict_says_how_far_the_evidence_goes(
    evidence: str | None, served: str | None, expected: str | None, passed: bool, words: str
) -> None:
    verdict = assess(evidence, served, expected)
    assert verdict.passed is passed
    assert words in verdict.words


def test_a_models_name_is_no_markdown() -> None:
    words = assess("reported", "`![seen](https://evil.example/pixel.png)<img src=x>\x1b", None).words
    assert "`'![seen](https://evil.example/pixel.png)<img src=x>\\x1b`" in words
