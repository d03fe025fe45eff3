"""The pages of the site: their links are those of the repository, moved to one folder."""

from pathlib import PurePosixPath

import pytest

from tools.site import AT_THE_ROOT, ROOT, site_path, with_links


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("README.md", "[a](docs/ocr.md)", "[a](ocr.md)"),
        ("README.md", "[a](docs/decisions/README.md)", "[a](decisions/README.md)"),
        ("docs/ocr.md", "[a](../README.md#install-it)", "[a](index.md#install-it)"),
        ("docs/ocr.md", "[a](../SECURITY.md)", "[a](SECURITY.md)"),
        ("docs/ocr.md", "[a](#limits)", "[a](#limits)"),
        ("docs/decisions/0001-outbox.md", "[a](../benchmarks.md)", "[a](../benchmarks.md)"),
        ("docs/attacks.md", "[a](../tests/test_rules.py)", "a"),
        ("docs/ocr.md", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("docs/in-the-ui.md", "![a](pictures/check.png)", "![a](pictures/check.png)"),
    ],
)
def test_a_link_leads_to_the_same_page_in_the_site(page: str, link: str, moved: str) -> None:
    assert with_links(link, PurePosixPath(page)) == moved


def test_every_page_of_the_repository_has_a_place_of_its_own_in_the_site() -> None:
    pages = [*AT_THE_ROOT, *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
    assert len({site_path(PurePosixPath(page)) for page in pages}) == len(pages)


def test_every_page_is_in_the_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [site_path(PurePosixPath("docs") / page.name) for page in (ROOT / "docs").glob("*.md")]
    assert [str(page) for page in pages if f"- {page}\n" not in listed] == []
