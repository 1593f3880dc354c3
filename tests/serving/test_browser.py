"""The page in a real browser: keys, the script, the policy, and what axe finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mm_assets as mm
from tests.serving.conftest import Server, World

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
# As root there is no sandbox; and nothing of its own may go out.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


def test_a_person_answers_twenty_records_with_one_key_each(
    browser: Any, to_review: mm.Dataset, serving: Callable[..., Server]
) -> None:
    server = serving(root=to_review.settings.root)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{server.url}/review/pets_like")
    page.get_by_label("Name").fill("Ana")
    page.keyboard.press("Enter")
    waiting = {row["record_id"] for row in to_review.review()}
    seen = []
    for place in range(20):
        title = page.locator("h1")
        title.wait_for()
        record = title.inner_text()
        seen.append(record)
        if place == 3:  # a slip of the finger, and back
            page.keyboard.press("1")
            page.get_by_text("Undo").wait_for()
            page.keyboard.press("u")
            page.wait_for_function(
                "one => document.querySelector('h1').innerText == one", arg=record
            )
        page.keyboard.press("12"[place % 2])
        page.wait_for_function("one => document.querySelector('h1').innerText != one", arg=record)
    assert set(seen) == waiting
    page.get_by_text("Nothing needs review").wait_for()
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Nothing needs review").wait_for()
    to_review.sync(quiet=True)
    assert not to_review.review()
    assert said == []
    assert server.stop() == 0


def test_axe_finds_no_serious_fault_on_any_page_in_either_theme(
    browser: Any, to_review: mm.Dataset, serving: Callable[..., Server], trained_pets: World
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    server = serving(root=to_review.settings.root)
    upload = to_review.uploads()[0]["upload"]
    version = to_review.model(modality="without_image")["version"]
    pages = [
        "/", "/try/pets_like", "/review/pets_like", "/review/pets_like", "/review/pets_like/queue",
        "/review/pets_like/results",
        "/uploads/pets_like", f"/uploads/pets_like/{upload}", "/models/pets_like",
        f"/models/pets_like/without_image/{version}",
    ]  # fmt: skip
    for theme in ("light", "dark"):
        # The policy lets no script of others in; this one is let in to look.
        context = browser.new_context(
            color_scheme=theme, viewport={"width": 390, "height": 844}, bypass_csp=True
        )
        page = context.new_page()
        for path in pages:
            page.goto(server.url + path)
            found = axe.run(page).response["violations"]
            bad = [(one["id"], one["nodes"][0]["html"]) for one in found
                   if one["impact"] in ("serious", "critical")]  # fmt: skip
            assert bad == [], (theme, path)
            wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            assert not wide, f"{path} is wider than a phone"
            if page.get_by_role("heading", name="Who answers?").count():
                page.get_by_label("Name").fill("Ana")
                page.keyboard.press("Enter")
                page.locator("form.record").wait_for()
        context.close()
