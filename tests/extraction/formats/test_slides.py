"""Slides made element by element: what their paragraphs show beside their words."""

from tests.extraction.formats.test_office import deck


def test_numbered_paragraphs_of_a_slide_have_their_numbers() -> None:
    def line(text: str, kind: str = "", level: int = 0, start: int = 1) -> str:
        numbered = f'<a:buAutoNum type="{kind}" startAt="{start}"/>' if kind else ""
        return f'<a:p><a:pPr lvl="{level}">{numbered}</a:pPr><a:r><a:t>{text}</a:t></a:r></a:p>'

    lines = (
        line("one", "arabicPeriod") + line("a", "alphaLcParenR", 1) + line("b", "alphaLcParenR", 1) + line("", "arabicPeriod")
        + line("two", "arabicPeriod") + line("a", "alphaLcParenR", 1) + line("plain") + line("one", "romanUcParenBoth", start=4)
        + line("two", "romanUcParenBoth", start=4) + line("other", "circleNumDbPlain")
    )  # fmt: skip
    assert deck({"a": f"<p:sp>{lines}</p:sp>"}).split("\n") == [
        "1. one", "a) a", "b) b", "2. two", "a) a", "plain", "(IV) one", "(V) two", "① other",
    ]  # fmt: skip
