"""The asset check: its result and description for each kind of evidence."""

import pytest

from dagster_offload.defs.checks import assess

QWEN = r"Qwen3\.6-27B"


@pytest.mark.parametrize(
    ("evidence", "served", "expected", "passed", "message"),
    [
        ("reported", "mlx/Qwen3.6-27B-8bit", QWEN, True, "reported: `mlx/Qwen3.6-27B-8bit`, as expected"),
        ("reported", "tiny-1b", QWEN, False, "reported: `tiny-1b`, which does not match"),
        ("reported", "tiny-1b", None, True, "no expected model is set"),
        ("echoed", "qwen-macbook", QWEN, True, "does not show which model answered"),
        ("echoed", "Qwen3.6-27B", QWEN, True, "matches the expected model"),
        ("absent", None, QWEN, True, "the model is not verified"),
        (None, None, QWEN, True, "no model was called: the outcome is not_applicable"),
    ],
)
def test_the_description_names_the_evidence(
    evidence: str | None, served: str | None, expected: str | None, passed: bool, message: str
) -> None:
    verdict = assess(evidence, served, expected, "not_applicable" if evidence is None else "ok")
    assert verdict.passed is passed
    assert message in verdict.message


def test_a_model_name_is_not_rendered_as_markdown() -> None:
    message = assess("reported", "`![seen](https://evil.example/pixel.png)<img src=x>\x1b", None, "ok").message
    assert "`'![seen](https://evil.example/pixel.png)<img src=x>\\x1b`" in message
