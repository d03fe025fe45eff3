"""Builds the documentation as a site: `make docs`. MkDocs wants all pages in one folder, so they are copied there first.

README becomes the first page. A link to a file that is no page, such as a test, becomes its text: the site has no source code.
MkDocs checks the links and anchors that remain.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
FIRST = "README.md"
AT_THE_ROOT = (FIRST, "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:]+)\)")
PICTURE = re.compile(r"(!\[[^\]]*\])\(docs/")


def copy_pages() -> None:
    """Fill `PAGES`. The pages of `docs` and those of the root are side by side there."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for page in PAGES.rglob("*.md"):
        source = PurePosixPath("docs") / page.relative_to(PAGES).as_posix()
        page.write_text(with_links(page.read_text(encoding="utf-8"), source), encoding="utf-8")
    for name in AT_THE_ROOT:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = PICTURE.sub(r"\1(", text)
        (PAGES / site_path(PurePosixPath(name))).write_text(with_links(text, PurePosixPath(name)), encoding="utf-8")


def with_links(text: str, page: PurePosixPath) -> str:
    """The text of a page of the repository, with the links of the site."""

    def link(match: re.Match[str]) -> str:
        path, hash_sign, anchor = match["target"].partition("#")
        if not path:
            return match[0]
        target = _normal(page.parent / path)
        if not is_page(target):
            return match["text"]
        here = site_path(page).parent
        up = "../" * len(here.parts)
        return f"[{match['text']}]({up}{site_path(target)}{hash_sign}{anchor})"

    return LINK.sub(link, text)


def is_page(path: PurePosixPath) -> bool:
    """Whether the site has this file of the repository."""
    return str(path) in AT_THE_ROOT or (path.parts[0] == "docs" and path.suffix == ".md")


def site_path(path: PurePosixPath) -> PurePosixPath:
    """The place in the site of a page of the repository."""
    if str(path) == FIRST:
        return PurePosixPath("index.md")
    return path.relative_to("docs") if path.parts[0] == "docs" else path


def _normal(path: PurePosixPath) -> PurePosixPath:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def main() -> int:
    """Build the site. Fails if a link leads nowhere."""
    copy_pages()
    command = [str(Path(sys.executable).parent / "mkdocs"), "build", "--strict"]
    # Not --quiet: it hides the warnings that --strict counts. Without the variable, the theme advertises its successor.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
