"""The page in a real browser: keys, the script, the policy, and what axe finds."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mm_assets as mm
from tests.serving.conftest import Server, World

pytestmark = pytest.mark.server


@pytest.fixture
def browser(chromium: dict[str, Any]) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(**chromium)
        yield opened
        opened.close()


# What a person does: keys and clicks that come from a hand, and not from the page's own script.
COUNTED = """
for (const [kind, name] of [["keydown", "keys"], ["click", "clicks"]]) {
  addEventListener(kind, (event) => {
    if (!event.isTrusted || event.detail === 0 && kind === "click") return;
    sessionStorage.setItem(name, 1 + Number(sessionStorage.getItem(name)));
  }, true);
}
"""


SHOWS = "one => document.querySelector('h1')?.innerText === one"
SHOWS_ANOTHER = "one => ![one, undefined].includes(document.querySelector('h1')?.innerText)"

# Keys that are pressed at the same moment, sooner than a page can change.
AT_ONCE = """keys => {
  for (const key of keys) {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  }
}"""

# A key that is pressed as soon as a record can be seen, while the rest of its page is on the way.
EARLY = """
const watched = new MutationObserver(() => {
  const title = document.querySelector("h1"), key = sessionStorage.getItem("early");
  if (!title || !key) return;
  sessionStorage.removeItem("early");
  sessionStorage.setItem("seen", title.innerText);
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
});
watched.observe(document, { childList: true, subtree: true });
"""


def counted(page: Any) -> dict[str, int]:
    names = ("keys", "clicks")
    return {name: int(page.evaluate(f"sessionStorage.getItem('{name}') || 0")) for name in names}


def test_a_person_answers_twenty_records_with_one_key_each(
    browser: Any, to_review: mm.Dataset, serving: Callable[..., Server]
) -> None:
    server = serving(root=to_review.settings.root)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_init_script(COUNTED + EARLY)
    page.goto(server.url)  # nobody has to know more than the address
    card = page.get_by_role("listitem").filter(has_text="pets_like")
    card.get_by_role("link", name="Review").click()
    page.get_by_label("Name").wait_for()
    page.keyboard.type("Ana")
    page.keyboard.press("Enter")
    waiting = {row["record_id"] for row in to_review.review()}
    seen = []
    for place in range(19):
        title = page.locator("h1")
        title.wait_for()
        record = title.inner_text()
        seen.append(record)
        if place == 10:
            assert counted(page) == {"keys": len("Ana") + 1 + 10, "clicks": 1}
        if place == 13:  # a slip of the finger, and back; a hasty one undoes nothing else
            page.evaluate(AT_ONCE, ["1", "u"])
            page.wait_for_function(SHOWS_ANOTHER, arg=record)
            page.keyboard.press("u")
            page.wait_for_function(SHOWS, arg=record)
        if place == 18:
            page.evaluate("sessionStorage.setItem('early', '1')")
        page.keyboard.press("12"[place % 2])
        page.wait_for_function(SHOWS_ANOTHER, arg=record)
    page.get_by_role("heading", name="Nothing needs review").wait_for()
    seen.append(page.evaluate("sessionStorage.getItem('seen')"))
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
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    server = serving(root=to_review.settings.root)
    upload = to_review.uploads()[0]["upload"]
    version = to_review.model(modality="without_image")["version"]
    pages = [
        "/", "/try/pets_like", "/review/pets_like", "/review/pets_like", "/review/pets_like/queue",
        "/review/pets_like/results",
        "/uploads/pets_like", f"/uploads/pets_like/{upload}", "/models/pets_like",
        "/monitoring/pets_like", f"/models/pets_like/without_image/{version}",
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


DROP = """([selector, name, text]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
  const place = document.querySelector(selector);
  for (const kind of ["dragover", "drop"]) {
    const how = { dataTransfer: files, bubbles: true, cancelable: true };
    place.dispatchEvent(new DragEvent(kind, how));
  }
}"""


def drop(page: Any, selector: str, name: str, data: bytes) -> None:
    """What a browser does with a file that is dragged there."""
    page.evaluate(DROP, [selector, name, base64.b64encode(data).decode()])


def said_of(page: Any, url: str, record: dict[str, Any]) -> tuple[str, list[str], str]:
    """Ask by the form: the answer, the shares, and the model's version."""
    page.goto(f"{url}/try/pets_like")
    page.locator("[name='column:age']").fill(str(record["age"]))
    page.locator("[name='column:colour']").select_option(record["colour"])
    page.locator("[name='column:note']").select_option(record["note"])
    page.get_by_role("button", name="Ask").click()
    page.locator(".answer").wait_for()
    shares = page.locator(".bars .number").all_inner_texts()
    return page.locator(".answer").inner_text(), shares, page.locator("section code").inner_text()


def test_the_whole_path_from_a_dropped_file_to_another_answer(
    browser: Any, own_copy: Path, serving: Callable[..., Server], trained_pets: World
) -> None:
    ds = mm.open("pets_like")
    wish = "review: {threshold: 1.0}\n  minimum_score: 1.0"  # no training promotes by itself
    ds.file.write_text(re.sub(r"\n  review: .*", f"\n  {wish}", ds.file.read_text()))
    ds, server = mm.open("pets_like"), serving(root=own_copy)
    page = browser.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))

    page.goto(f"{server.url}/uploads/pets_like")
    drop(page, "form[data-parts]", "new.csv", trained_pets.new.head(20).to_csv().encode())
    page.get_by_role("button", name="Check and send").click()
    page.get_by_text("Sent to inbox/pets_like/new.csv-").wait_for()
    ds.sync(quiet=True)  # what the daemon does
    page.goto(f"{server.url}/uploads/pets_like")
    page.get_by_role("link", name="new.csv-").click()
    page.get_by_text("predictions to review").wait_for()

    record = trained_pets.record(1)
    before = said_of(page, server.url, record)

    page.goto(f"{server.url}/review/pets_like")
    page.get_by_label("Name").fill("Ana")
    page.keyboard.press("Enter")
    for _ in range(20):
        title = page.locator("h1")
        title.wait_for()
        seen = title.inner_text()
        page.keyboard.press("1" if seen == record["pet"] else "2")
        page.wait_for_function(SHOWS_ANOTHER, arg=seen)
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Nothing needs review").wait_for()
    ds.sync(quiet=True)
    assert not ds.review()

    with contextlib.suppress(mm.RunFailed):
        ds.train(quiet=True)
    [new] = [row for row in ds.models()
             if row["modality"] == "without_image" and not row["champion"]]  # fmt: skip
    assert said_of(page, server.url, record) == before  # it answers only once it is promoted
    page.goto(f"{server.url}/models/pets_like")
    page.get_by_role("link", name=f"Promote {new['version']}").click()
    page.get_by_label("Why?").fill("it has learnt from the review")
    page.get_by_role("button", name="Promote").click()
    page.get_by_text("answers from now on").wait_for()
    after = said_of(page, server.url, record)
    assert after[2] == new["version"] != before[2]
    assert after[1] != before[1]
    log = ds.model(new["version"])["promotions"]
    assert (log[-1]["by"], log[-1]["reason"]) == ("Ana", "it has learnt from the review")

    page.goto(f"{server.url}/review/pets_like/results")
    batch = page.locator(".batch").filter(has_text=new["version"])
    counts = re.findall(r"(\d+) of (\d+) \(\d+%\) were there when", batch.inner_text())
    assert counts
    assert all(some == every for some, every in counts)
    assert before[2] in batch.inner_text()
    assert told == []
    assert server.stop() == 0


BREAKS = """
const ask = window.fetch;
window.fetch = (path, how) => {
  const later = String(path).includes("offset=") && !String(path).includes("offset=0");
  if (!later || sessionStorage.getItem("broken")) return ask(path, how);
  sessionStorage.setItem("broken", path);
  return Promise.reject(new TypeError("the network is away"));
};
"""


def test_a_dropped_file_goes_on_after_the_connection_broke(
    browser: Any, own_copy: Path, serving: Callable[..., Server]
) -> None:
    server = serving(root=own_copy)
    page = browser.new_page()
    page.add_init_script(BREAKS)  # the second part does not come through, the first time
    page.goto(f"{server.url}/uploads/pets_like")
    rows = b"".join(b"L%06d,3,red,%s\n" % (n, b"loud " * 20) for n in range(15_000))
    whole = b"pet,age,colour,note\n" + rows
    drop(page, "form[data-parts]", "large.csv", whole)
    page.get_by_role("button", name="Check and send").click()
    page.get_by_text("Sent to inbox/pets_like/large.csv-").wait_for(timeout=90_000)
    assert page.evaluate("sessionStorage.getItem('broken')")
    [sent] = (own_copy / "data" / "lake" / "inbox" / "pets_like").glob("*/large.csv")
    assert sent.read_bytes() == whole
    assert not list((own_copy / "data" / "serving" / "parts").glob("*/"))


def test_of_a_part_that_breaks_off_what_came_is_kept(
    own_copy: Path, serving: Callable[..., Server]
) -> None:
    server = serving(root=own_copy)
    host, port = server.url.removeprefix("http://").split(":")
    headers = {"Origin": server.url}
    form = {"name": "a.csv", "size": "100000", "stamp": ""}
    where = "/uploads/pets_like/parts"
    part = server.ask("POST", where, data=form, headers=headers).json()["part"]
    with socket.create_connection((host, int(port))) as connection:
        head = f"PATCH {where}/{part}?offset=0 HTTP/1.1\r\nHost: {host}:{port}\r\n"
        head += f"Origin: {server.url}\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 60_000)
        server.until(lambda: there(server, where, form) == 60_000)
    told = server.ask("PATCH", f"{where}/{part}?offset=60000", content=b"x" * 40_000,
                      headers=headers)  # fmt: skip
    assert told.json() == {"offset": 100_000}
    assert "unexpected" not in server.log


def there(server: Server, where: str, form: dict[str, str]) -> int:
    """How much of a file has come."""
    answer = server.ask("POST", where, data=form, headers={"Origin": server.url})
    return int(answer.json()["offset"])
