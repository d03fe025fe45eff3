"""Takes the pictures of docs/pictures: what Dagster's UI shows of a library with a broken file and a slot that sleeps.

It starts a real `up` in a home of its own, with the stand-in router and the sample library, and looks at it in Chromium.
Run it with `make pictures`; it takes some minutes. It needs Chromium and a font with Korean letters: apt-get install chromium
fonts-nanum
"""

import argparse
import base64
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.acceptance import Home, wait_for
from tests.support.browser import Browser, browser
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ui import UI, configure, home_for

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "fixtures" / "library"
BROKEN = "reading/interrupted-download.pdf"
INVOICE = "finance/invoice-2024-0317.pdf"
KOREAN = "회사 문서/용역계약서.docx"
PIPELINE = """\
stages:
  payment:
    when: {classify: {category: [invoice]}}
    prompt: What must be paid, to whom, and by when?
    answer: {payee: string, amount: number, due: string}
"""
# Dagster's pages load their parts one after another.
SETTLE_SECONDS = 4.0
TEXT_SECONDS = 45.0  # until a page shows a text
# A button with the text, or the first place of the page that has it.
_CLICK = """(found => (found.find(e => e.closest('button')) ?? found[0])
    ?.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, view: window})))
    ([...document.querySelectorAll('*')].filter(e => !e.children.length && e.textContent.trim() === %s))"""


class Camera:
    """Opens pages of one UI and stores pictures of them."""

    def __init__(self, page: Browser, address: str, folder: Path) -> None:
        self._page, self._address, self._folder = page, address, folder
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, path: str, text: str, *, height: int = 900, click: str | None = None) -> None:
        """Store the picture of a page when `text` has appeared in it. `click`: a text to press before."""
        size = {"width": 1440, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._page.call("Emulation.setDeviceMetricsOverride", **size)
        self._page.open(f"{self._address}{path}")
        if click is not None and self._has(name, click):
            time.sleep(SETTLE_SECONDS)
            self._page.run(_CLICK % json.dumps(click))
        self._has(name, text)
        time.sleep(SETTLE_SECONDS)
        picture = self._page.call("Page.captureScreenshot", format="png")["data"]
        (self._folder / f"{name}.png").write_bytes(base64.b64decode(picture))
        print(f"{self._folder / name}.png", flush=True)

    def _has(self, name: str, text: str) -> bool:
        """Wait for a text of the page. Returns False, and prints what is missing, if it does not appear."""
        try:
            wait_for(lambda: text in self._page.text(), f"{text!r} in {name}", TEXT_SECONDS)
        except AssertionError as missing:
            print(missing, file=sys.stderr)
            return False
        return True


@contextmanager
def library_of(router: Router) -> Iterator[Home]:
    """A home with the sample library and an own stage, and a running `up`."""
    with home_for(router) as home:
        shutil.rmtree(home.library)
        shutil.copytree(LIBRARY, home.library)
        (home.folder / "offload.yaml").write_text(PIPELINE)
        configure(home, router, deep_concurrency=2)
        home.up()
        yield home


def main(folder: Path) -> None:
    with Router(mode="cold", retry_after="3600") as router, library_of(router) as home, browser() as page:
        ui, ledger, camera = UI(home), home.ledger, Camera(page, home.address, folder)
        wait_for(lambda: ledger.count("failed", EXTRACT) == 1 and ledger.count("pending", EXTRACT) == 0, "the texts")
        wait_for(lambda: "SUCCESS" in ui.runs(pipelineName="scan").values(), "the end of the scan")
        asked = ui.materialize(KOREAN)
        wait_for(lambda: ledger("select from waiting_runs") != [], "the run that waits")
        cancelled = ui.materialize(INVOICE)
        wait_for(lambda: len(ledger("select from waiting_runs")) == 2, "both runs that wait")
        ui.cancel(cancelled)
        wait_for(lambda: ui.runs()[cancelled] == "CANCELED", "the cancelled run")
        for answers in (12, 30):  # the end of each drain is a point of the plots
            _wake(home, router)
            router.wait(answers=answers, timeout=PATIENCE_SECONDS)
            router.set(mode="cold")
            wait_for(lambda: ledger("select from slots where breaker = 'open'") != [], "the slot's absence")
            wait_for(lambda: "STARTED" not in ui.runs(pipelineName="drain").values(), "the end of the drain")
        _wake(home, router)
        done = sum(path.is_file() for path in LIBRARY.rglob("*")) - 1
        wait_for(lambda: ledger.count("done", CLASSIFY) == ledger.count("done", SUMMARIZE) == done, "the drain")
        wait_for(lambda: set(ui.runs(pipelineName="drain").values()) == {"SUCCESS"}, "the end of the drain")
        wait_for(lambda: ui.runs()[asked] == "SUCCESS", "the run that waited")
        camera.take("runs", "/runs", "drain")
        camera.take("failed-document", "/assets/extracted_text?view=events", BROKEN, click=BROKEN)
        camera.take("check", "/assets/extracted_text?view=checks", "needs you")
        record = f"/assets/summary?view=partitions&partition={quote(INVOICE, safe='')}"
        camera.take("record", record, "record", height=1300)
        camera.take("backlog", "/assets/backlog?view=overview", "hours left", height=1300, click="Plots")


def _wake(home: Home, router: Router) -> None:
    router.set(mode="awake", latency=0.2, retry_after=None)
    home.run("slot", "set", "deep", "--try-again")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "pictures")
    main(parser.parse_args().folder)
