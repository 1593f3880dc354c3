"""The page for people, as a browser without scripts sees it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import io
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import mm_assets as mm
from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring.report import PICTURES
from mm_assets.predictions.predict import empty_predictions
from mm_assets.review.one_by_one import Given, keep, standing
from mm_assets.review.order import Order
from mm_assets.serving.app import make_app
from mm_assets.serving.keys import add_key
from mm_assets.serving.options import Options
from mm_assets.serving.people import rooms
from mm_assets.serving.people.monitoring_pages import CAPTIONS
from mm_assets.serving.people.moved import columns_moved, regions
from mm_assets.serving.people.room import Room
from mm_assets.serving.reading import Read, Reader
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from mm_assets.training.known_records import known_records
from tests.make import csv_table, dataset, drop_zip, processed
from tests.serving.conftest import World
from tests.tables.offers import offer

HERE = "http://127.0.0.1:8080"
FROM_HERE = {"Origin": HERE}
WITHOUT = "without_image"


def client_of(ds: mm.Dataset, **options: Any) -> TestClient:
    app = make_app(Options(**options), {ds.name: ds.predictor}, ds.settings)
    return TestClient(app, base_url=HERE, headers=FROM_HERE)


@pytest.fixture
def asked(to_review: mm.Dataset) -> Iterator[tuple[TestClient, mm.Dataset]]:
    """A service of a project whose new records all wait for review."""
    with client_of(to_review) as client:
        yield client, to_review


def named(client: TestClient, name: str = "Ana") -> TestClient:
    client.post("/review/pets_like/name", data={"name": name})
    return client


def shown(page: str) -> str:
    return re.search(r"<h1>(.*?)</h1>", page)[1]  # type: ignore[index]


def test_a_person_answers_the_queue_and_the_labels_come_in(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    assert "Who answers?" in client.get("/review/pets_like").text
    named(client)
    waiting = {row["record_id"] for row in ds.review()}
    seen = set()
    for _ in waiting:
        seen.add(record := shown(client.get("/review/pets_like").text))
        client.post("/review/pets_like", data={"record": record, "label": "yes"})
    assert seen == waiting
    assert len(seen) == 20
    page = client.get("/review/pets_like").text
    assert "Nothing needs review" in page
    assert "You gave 20 answers" in page
    client.post("/review/pets_like/send")
    ds.sync(quiet=True)
    assert not ds.review()
    [told] = standing(ds.lake, ds.name).sent.values()
    assert {one.who for one in told} == {"Ana"}


def test_two_people_see_different_records_and_undo_brings_one_back(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    named(client, "Ana")
    first = shown(client.get("/review/pets_like").text)
    client.cookies.clear()
    named(client, "Ben")
    assert shown(client.get("/review/pets_like").text) != first
    client.cookies.clear()
    named(client, "Ana")
    client.post("/review/pets_like", data={"record": first, "unsure": "yes"})
    assert shown(client.get("/review/pets_like").text) != first
    answered = client.post("/review/pets_like/undo", data={"record": first})
    assert shown(answered.text) == first
    bad = client.post("/review/pets_like", data={"record": first, "label": "maybe"})
    assert "is not one of the classes" in bad.text
    assert not standing(ds.lake, ds.name).kept


def test_pages_of_elsewhere_can_send_nothing(asked: tuple[TestClient, mm.Dataset]) -> None:
    client, ds = asked
    named(client)
    form = {"record": shown(client.get("/review/pets_like").text), "label": "yes"}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": HERE},
        {"Origin": "null"},
    ):
        answer = client.post("/review/pets_like", data=form, headers=headers)
        assert answer.status_code == 403, headers
    assert not standing(ds.lake, ds.name).kept
    page = client.get("/review/pets_like")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r'style="|\son[a-z]+="|https?://|"//[a-z]', page.text)


def test_the_form_answers_as_the_service_does(
    asked: tuple[TestClient, mm.Dataset], trained_pets: World
) -> None:
    client, _ = asked
    record = trained_pets.record()
    told = client.post("/v1/datasets/pets_like/predictions", json=record).json()["predictions"][0]
    typed = {f"column:{name}": str(value) for name, value in record.items() if name != "pet"}
    page = client.post("/try/pets_like", data=typed, files={"none": b""}).text
    assert f'<p class="answer">{told["prediction"]}</p>' in page
    assert told["model_version"] in page
    odd = typed | {"column:note": "<script>alert(1)</script>\x1b[31m\u202e", "column:age": "abc"}
    page = client.post("/try/pets_like", data=odd, files={"none": b""}).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page


def test_uploads_are_shown_with_their_receipt_and_a_file_can_be_sent(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    page = client.get("/uploads/pets_like").text
    upload = ds.uploads()[0]["upload"]
    assert f"/uploads/pets_like/{upload}" in page
    receipt = client.get(f"/uploads/pets_like/{upload}")
    assert "predictions to review" in receipt.text
    assert client.get(f"/uploads/pets_like/{upload}?as=json").json()["upload"] == upload
    table = b"pet,age,colour,note\nnew-0,x,red,loud\n" + b"".join(
        b"new-%d,3,red,loud\n" % n for n in range(1, 9)
    )
    sent = client.post("/uploads/pets_like", files={"file": ("../more <b>.csv", table)})
    assert "Sent to" in sent.text, re.findall(r'role="alert">(.*?)</p>', sent.text)
    ds.sync(quiet=True)
    page = client.get("/uploads/pets_like").text
    assert "used in part" in page
    assert "<b>" not in page.split("<tbody>")[1]
    useless = client.post("/uploads/pets_like", files={"file": ("a.csv", b"a,b\n1,2\n")})
    assert 'role="alert"' in useless.text
    assert 'role="alert"' in client.get("/uploads/pets_like/nowhere").text


def test_what_a_service_that_died_left_behind_is_sent_by_the_next(
    to_review: mm.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = to_review.review()[0]["record_id"]
    given = Given(record, "yes", "Ana", "2026-01-01T10:00:00.000+00:00", "no", "m1")
    keep(to_review.lake, to_review.name, given)
    monkeypatch.setattr(rooms, "LOOK_SECONDS", 0.05)
    with client_of(to_review):  # nobody opens the page
        until = time.monotonic() + 60
        while not standing(to_review.lake, to_review.name).sent and time.monotonic() < until:
            time.sleep(0.05)
    [told] = standing(to_review.lake, to_review.name).sent.values()
    assert told == [given]
    to_review.sync(quiet=True)
    assert record not in {row["record_id"] for row in to_review.review()}


def test_a_browser_signs_in_with_its_key(
    asked: tuple[TestClient, mm.Dataset], tmp_path: Path
) -> None:
    _, ds = asked
    key = add_key(file := tmp_path / "keys.json", "Ana's key")
    html = {"Accept": "text/html"}
    with client_of(ds, keys=file) as client:
        page = client.get("/review/pets_like", headers=html)
        assert "API key" in page.text
        assert page.url.path == "/login"
        assert client.get("/static/page.css").status_code == 200
        assert client.get("/review/pets_like").status_code == 401
        wrong = client.post("/login", data={"key": "mm_wrong", "to": "/"})
        assert wrong.status_code == 401
        for to in ("//evil.example", "/\\evil.example", "https://evil.example"):
            answer = client.post("/login", data={"key": key, "to": to}, follow_redirects=False)
            assert answer.headers["location"] == "/", to
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        page = client.get("/review/pets_like", headers=html)
        assert "Ana&#39;s key" in page.text  # the key's name is who answers
        assert shown(page.text) in {row["record_id"] for row in ds.review()}


# -- models ---------------------------------------------------------------------------------------


def test_the_models_are_shown_and_another_one_is_promoted_and_taken_back(
    to_review: mm.Dataset,
) -> None:
    ds = to_review
    ds.train(quiet=True)
    rows = [row for row in ds.models() if row["modality"] == "without_image"]
    [old], now = [r["version"] for r in rows if not r["champion"]], ds.model(modality=WITHOUT)
    with client_of(ds) as client:
        page = client.get("/models/pets_like").text
        assert "What review buys" in page
        assert "Is it as sure as it is right?" in page
        assert now["version"] in page
        path = f"/models/pets_like/without_image/{old}"
        assert path in page
        asked = client.get(path).text
        assert now["version"] in asked
        form = {"present": now["version"], "name": "Ana <b>", "reason": "the newer one is odd"}
        for lacking, words in (("reason", "Say why."), ("name", "Say who you are.")):
            refused = client.post(path, data=form | {lacking: " "})
            assert (refused.status_code, words in refused.text) == (422, True)
        stale = client.post(path, data=form | {"present": old})
        assert "was promoted meanwhile" in stale.text
        elsewhere = client.post(path, data=form, headers={"Origin": "http://evil.example"})
        assert elsewhere.status_code == 403
        assert ds.model(modality=WITHOUT)["version"] == now["version"]
        done = client.post(path, data=form).text
        assert f"<code>{old}</code> answers from now on" in done
        assert "Ana &lt;b&gt;" in done
        told = client.get("/v1/datasets/pets_like").json()
        assert told["models"][WITHOUT] == old  # at once
        again = f"/models/pets_like/without_image/{now['version']}"
        assert client.post(again, data=form | {"present": old}).status_code == 200
        assert client.get("/models/pets_like/without_image/nothing").status_code == 404
    promotions = ds.model(modality=WITHOUT)["promotions"]
    assert ds.model(modality=WITHOUT)["version"] == now["version"]
    assert promotions[-1]["by"] == "Ana <b>"
    assert ds.model(old)["promotions"][-1]["reason"].startswith("Rolled back from")


def test_only_a_key_that_may_promotes_and_where_anybody_may_ask_nobody_does(
    to_review: mm.Dataset, tmp_path: Path
) -> None:
    version = to_review.model(modality=WITHOUT)["version"]
    path = f"/models/pets_like/without_image/{version}"
    plain = add_key(file := tmp_path / "keys.json", "reader")
    able = add_key(file, "keeper", may_promote=True)
    with client_of(to_review, keys=file) as client:
        for key, status in ((plain, 403), (able, 200)):
            headers = {"Authorization": f"Bearer {key}"}
            assert client.get("/models/pets_like", headers=headers).status_code == 200
            assert client.get(path, headers=headers).status_code == status
            form = {"present": version, "reason": "again"}
            assert client.post(path, headers=headers, data=form).status_code == status
    with client_of(to_review, open=True) as client:
        assert client.get("/models/pets_like").status_code == 200
        assert client.get(path).status_code == 403


# -- monitoring -----------------------------------------------------------------------------------


def test_the_pictures_of_monitoring_are_those_of_the_lake(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    page = client.get("/monitoring/pets_like").text
    document = ds.lake.read_json(of_dataset(ds.name, "monitoring"))
    assert document is not None
    shown = re.findall(r'src="/monitoring/pets_like/(\w+\.png)\?(\w+)"', page)
    assert {name for name, _ in shown} == set(document["files"])
    assert [name.removesuffix(".png") for name, _ in shown] == [
        one for one in PICTURES if f"{one}.png" in document["files"]
    ]
    for name, mark in shown:
        answer = client.get(f"/monitoring/pets_like/{name}?{mark}")
        assert answer.headers["content-type"] == "image/png"
        assert hashlib.sha256(answer.content).hexdigest() == document["files"][name]["sha256"]
        assert document["files"][name]["sha256"].startswith(mark)
    assert f"The median of all is {document['median_confidence']:.2f}." in page
    for odd in ("nothing", "..%2f..%2fmonitoring", "training_set"):
        assert client.get(f"/monitoring/pets_like/{odd}.png").status_code == 404
    assert set(CAPTIONS) == set(PICTURES)
    ds.lake.delete(of_dataset(ds.name, "monitoring"))
    assert "Nothing is drawn yet" in client.get("/monitoring/pets_like").text


# -- why ------------------------------------------------------------------------------------------


def form_of(record: dict[str, Any]) -> dict[str, str]:
    return {f"column:{name}": str(value) for name, value in record.items() if name != "pet"}


def png_of(image: Any) -> bytes:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG")
    return written.getvalue()


def test_what_moved_an_answer_and_what_is_like_it_is_told_on_demand(
    asked: tuple[TestClient, mm.Dataset], trained_pets: World
) -> None:
    client, _ = asked
    page = client.get("/try/pets_like").text
    assert re.search(r"age <small>.* to .* in training", page)
    assert '<option value="blue">' in page
    name = next(one for one in trained_pets.new.index if trained_pets.images[one] is not None)
    record = trained_pets.record(list(trained_pets.new.index).index(name))
    image = trained_pets.images[name].copy()
    image[:12, :15] = 255 - image[:12, :15]  # one corner is not like the rest
    files = {"image": ("a.png", png_of(image))}
    first = client.post("/try/pets_like", data=form_of(record), files=files)
    assert "img-src 'self' data:" in first.headers["content-security-policy"]
    kept = re.search(r'name="kept_image" value="(.*?)"', first.text)[1]  # type: ignore[index]
    assert "What moved it</h3>" not in first.text
    more = form_of(record) | {"kept_image": kept, "explain": "yes"}
    told = client.post("/try/pets_like", data=more, files={"none": b""}).text
    assert answer_of(told) == answer_of(first.text)
    assert "What moved it</h3>" in told
    assert re.search(r"parts of the image move the answer|No single part", told)
    near = re.findall(r'src="(/try/pets_like/image\?record=P\d+)"', told)
    assert near
    assert client.get(near[0]).headers["content-type"] == "image/png"
    assert client.get("/try/pets_like/image?record=nobody").status_code == 404
    without = client.post("/try/pets_like", data=more | {"without": "yes"}, files={"none": b""})
    assert "Answered without image" in without.text
    odd = client.post("/try/pets_like", data=more | {"kept_image": "<!>"}, files={"none": b""})
    assert "Answered without image" in odd.text


def answer_of(page: str) -> list[str]:
    return re.findall(r'<p class="answer">(.*?)</p>|<span class="number">(\d+\.\d)%', page)


def test_what_a_column_moved_is_the_answer_less_the_one_with_its_usual_value(
    asked: tuple[TestClient, mm.Dataset], trained_pets: World
) -> None:
    client, ds = asked
    record = trained_pets.record()
    known = known_records(ds.lake, ds.spec)
    assert known is not None
    usual = {name: known.usual[name].value for name in ("age", "colour")}
    predictor = ds.predictor()
    [answer] = predictor.predict(record)

    async def ask(reads: Any) -> Any:
        return predictor.answer(reads)

    read = predictor.reader.record(record)
    found = {one.column: one.change
             for one in asyncio.run(columns_moved(ask, read, answer, known.usual))}  # fmt: skip
    said = answer["prediction"]
    for name, value in usual.items():
        [other] = predictor.predict(record | {name: value})
        expected = answer["probabilities"][said] - other["probabilities"][said]
        assert found.get(name, 0.0) == pytest.approx(expected, abs=0.006)
    assert any(abs(one) > 0.05 for one in found.values())


def test_of_a_sure_answer_it_is_told_what_it_hangs_on() -> None:
    said = {"prediction": "yes", "model_version": "m", "probabilities": {"yes": 0.9998}}

    async def ask(reads: Any) -> Any:
        pixels = [np.asarray(Image.open(io.BytesIO(read.images[0].data))) for read in reads]
        sure = [0.9998 if one.max() > 200 else 0.996 for one in pixels]
        return [said | {"probabilities": {"yes": one}} for one in sure]

    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:8, :8] = 255
    reader = Reader(dataset(image_longest_side=64))
    read = Read("a", {}, reader.images(png_of(image))[0])
    found = asyncio.run(regions(ask, reader, read, said))
    assert {(one.x, one.y, one.share) for one in found.cells} == {(0.0, 0.0, 1.0)}
    assert found.strongest == pytest.approx(0.0038)


def test_a_table_is_answered_as_a_page_and_as_a_download(
    asked: tuple[TestClient, mm.Dataset], trained_pets: World
) -> None:
    client, _ = asked
    rows = trained_pets.new.head(5).to_csv().encode()
    bad = b'bad,old,red,"<b>x</b>"\n'
    file = {"table": ("rows.csv", rows + bad)}
    page = client.post("/try/pets_like/table", files=file).text
    assert "6 answers" in page
    assert "finite number" in page.split("<tbody>")[1]
    assert "<b>" not in page.split("<tbody>")[1]
    whole = client.post("/try/pets_like/table", files=file, data={"download": "yes"})
    assert "attachment" in whole.headers["content-disposition"]
    told = list(csv.DictReader(io.StringIO(whole.text)))
    assert [row["record_id"] for row in told[:5]] == list(trained_pets.new.index[:5])
    assert told[0]["prediction"] in ("yes", "no")
    assert told[5]["code"]
    for odd in (b"", b"\x00\x01\x02", b"a,b\n1,2\n"):
        answer = client.post("/try/pets_like/table", files={"table": ("x.csv", odd)})
        assert 'role="alert"' in answer.text


# -- the queue ------------------------------------------------------------------------------------


def test_the_most_useful_first_is_a_choice_that_is_remembered(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    named(client)
    doubtful = [row["record_id"] for row in ds.review()]
    assert shown(client.get("/review/pets_like").text) == doubtful[0]
    useful = re.findall(r"record=(P\d+)", client.get("/review/pets_like/queue?order=useful").text)
    assert sorted(useful) == sorted(doubtful)
    assert useful != doubtful
    page = client.get("/review/pets_like?order=useful").text
    assert 'order=useful" aria-current="true"' in page
    seen = [shown(page)]
    for _ in range(3):
        page = client.post("/review/pets_like", data={"record": seen[-1], "label": "yes"}).text
        seen.append(shown(page))
    assert seen == useful[:4]


def test_two_who_answered_the_same_record_are_told_and_what_came_of_it_is_shown(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    first, second, third = [row["record_id"] for row in ds.review()][:3]
    for who, said in (
        ("Ana", {first: "yes", second: "no"}), ("<b>Ben", {first: "yes", second: "yes"}),
    ):  # fmt: skip
        client.cookies.clear()
        named(client, who)
        for record, label in said.items():
            page = client.post("/review/pets_like", data={"record": record, "label": label}).text
    assert "Ana said something else; one more person is asked" in page
    client.post("/review/pets_like", data={"record": third, "unsure": "yes"})
    page = client.get("/review/pets_like/results").text
    assert "2 records were answered by more than one; in 1 of 2 (50%) they said the same" in page
    assert "Ana: no; &lt;b&gt;Ben: yes" in page
    assert re.search(r"right in \d of 2 ", page)
    assert "Nothing is known yet" in page
    client.post("/review/pets_like/send")
    ds.sync(quiet=True)
    known = {row["record_id"] for row in ds.review()}
    assert first not in known
    assert second in known  # one more person is asked
    client.cookies.clear()
    named(client, "Cleo")
    assert shown(client.get("/review/pets_like").text) == second
    client.post("/review/pets_like", data={"record": second, "label": "yes"})
    told = client.get("/review/pets_like/results").text
    assert "Cleo: yes</td><td>yes</td>" in told
    [batch] = ds.review_results()
    page = client.get("/review/pets_like/results").text
    for words in ("What the answers did", "No other model answers since", batch["live_before"]):
        assert words in page
    assert (batch["answers"], batch["people"]) == (2, "<b>Ben, Ana, Cleo")


def test_ten_thousand_in_the_queue_keep_nobody_waiting(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, store, spec = Lake(folder_settings), open_store(folder_settings), dataset()
    count = 10_000
    rows = [[f"R{n}", str(n % 97), ""] for n in range(count)]
    drop_zip(lake, "first.zip", {"rows.csv": csv_table(["id", "age", spec.label_column], rows)})
    upload = processed(lake, store, spec, "first.zip")["upload"]
    offers = [
        offer(f"R{n}", upload=upload, prediction="cat", confidence=0.5 + n / count / 3,
              content_hash=str(n), probabilities='{"cat": 0.6, "dog": 0.4}')
        for n in range(count)
    ]  # fmt: skip
    store.merge(spec.dataset, pa.Table.from_pylist(offers, schema=empty_predictions().schema))
    room = Room(lake, store, spec)
    began = time.process_time()
    queue, _ = room.look()
    once = time.process_time() - began
    assert len(queue) == count
    monkeypatch.setattr("mm_assets.serving.people.room.review_queue", blocked := Blocked())
    monkeypatch.setattr("mm_assets.serving.people.room.QUEUE_SECONDS", 0.0)
    began = time.process_time()
    for _ in range(20):  # the table is asked again beside, and does not come back
        item = room.next_for("Ana", order=Order.USEFUL)
        assert item is not None
        room.values(item)
        room.progress("Ana")
        room.answer(item, "cat", "Ana")
    each = (time.process_time() - began) / 20
    blocked.free.set()
    assert each < max(0.15, once / 2), (each, once)
    assert blocked.calls == 1


def test_the_second_of_two_gets_a_record_that_was_answered_and_nobody_else_does(
    to_review: mm.Dataset,
) -> None:
    text = to_review.file.read_text().replace("threshold: 1.0", "threshold: 1.0, answered_twice: 1")
    to_review.file.write_text(text)
    ds = mm.open("pets_like")
    assert ds.spec.answer_fingerprint == to_review.spec.answer_fingerprint  # answers stay
    room = Room(ds.lake, ds.table, ds.spec)
    first = room.next_for("Ana")
    assert first is not None
    room.answer(first, "yes", "Ana")
    progress = room.progress("Ana")
    assert (progress.given, progress.waiting, progress.second, progress.unsent) == (1, 19, 1, 0)
    assert not room.is_due(answers=1, seconds=0.0)
    assert first.record_id not in {item.record_id for item in room.open_for("Ana")}
    assert room.next_for("Ben") == first
    room.answer(first, "yes", "Ben")
    assert first.record_id not in {item.record_id for item in room.open_for("Cleo")}
    assert room.progress("Ben").second == 0
    assert room.is_due(answers=1, seconds=0.0)


class Blocked:
    """A look at the queue that takes as long as one wants."""

    def __init__(self) -> None:
        self.free, self.calls = threading.Event(), 0

    def __call__(self, store: Store, spec: DatasetSpec) -> list[Any]:
        self.calls += 1
        self.free.wait(60)
        return []


def test_a_long_queue_is_shown_in_pages(
    asked: tuple[TestClient, mm.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, ds = asked
    monkeypatch.setattr("mm_assets.serving.people.review_pages.SHOWN_QUEUE", 8)
    pages = [client.get(f"/review/pets_like/queue?page={n}").text for n in (1, 2, 3)]
    found = [name for page in pages for name in re.findall(r"record=(P\d+)", page)]
    assert found == [row["record_id"] for row in ds.review()]
    for odd in ("0", "99", "x", "-1", "٣"):
        assert client.get(f"/review/pets_like/queue?page={odd}").status_code == 200


# -- uploads --------------------------------------------------------------------------------------


def begun(client: TestClient, data: bytes, name: str = "more.csv") -> Any:
    form = {"name": name, "size": str(len(data)), "stamp": "1"}
    return client.post("/uploads/pets_like/parts", data=form)


def test_a_file_comes_in_parts_and_goes_on_where_it_stopped(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    data = b"pet,age,colour,note\n" + b"".join(b"part-%d,3,red,loud\n" % n for n in range(40))
    told = begun(client, data).json()
    own = f"/uploads/pets_like/parts/{told['part']}"
    assert told["offset"] == 0
    assert client.patch(f"{own}?offset=0", content=data[:100]).json() == {"offset": 100}
    wrong = client.patch(f"{own}?offset=0", content=data[:100])
    assert (wrong.status_code, wrong.json()["offset"]) == (409, 100)
    assert client.post(f"{own}/finish").json()["offset"] == 100
    again = begun(client, data, "C:\\new\\more.csv").json()  # chosen anew, as by another visit
    assert again == {"part": told["part"], "offset": 100}
    assert client.patch(f"{own}?offset=100", content=data[100:] + b"x").status_code == 413
    there = begun(client, data).json()["offset"]
    client.patch(f"{own}?offset={there}", content=data[there:])
    page = client.get(client.post(f"{own}/finish").json()["to"]).text
    assert "Sent to inbox/pets_like/more.csv-" in page
    assert client.patch(f"{own}?offset=0", content=b"x").status_code == 404  # it is put away
    ds.sync(quiet=True)
    assert sum(row["record_id"].startswith("part-") for row in ds.review()) == 40


def test_parts_are_refused_from_elsewhere_and_beyond_the_limit_and_of_others(
    to_review: mm.Dataset, tmp_path: Path
) -> None:
    keys = [add_key(file := tmp_path / "keys.json", who) for who in ("Ana", "Ben")]
    ana, ben = ({"Authorization": f"Bearer {key}"} for key in keys)
    with client_of(to_review, keys=file, most_upload_bytes=50) as client:
        where = "/uploads/pets_like/parts"
        form = {"name": "../../a.csv", "size": "50", "stamp": ""}
        part = client.post(where, data=form, headers=ana).json()["part"]
        assert client.post(where, data=form | {"size": "51"}, headers=ana).status_code == 413
        for odd in ("0", "-1", "x", "²"):
            assert client.post(where, data=form | {"size": odd}, headers=ana).status_code == 413
        for key in (part, "0" * 32, "%2e%2e%2fkeys"):
            answer = client.patch(f"{where}/{key}?offset=0", content=b"x", headers=ben)
            assert answer.status_code == 404, key
        evil = ana | {"Origin": "http://evil.example"}
        assert client.patch(f"{where}/{part}?offset=0", headers=evil).status_code == 403
        useless = client.patch(
            f"{where}/{part}?offset=0", content=b"a,b\n" * 12 + b"ab", headers=ana
        )
        assert useless.json() == {"offset": 50}
        to = client.post(f"{where}/{part}/finish", headers=ana).json()["to"]
        assert 'role="alert"' in client.get(to, headers=ana).text


def test_quarantined_images_are_seen_small_and_encoded_anew(
    asked: tuple[TestClient, mm.Dataset],
) -> None:
    client, ds = asked
    whole = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG", comment=b"<script>")
    cut = whole.getvalue()[:20_000]
    files = {"images/q1.jpg": cut, "images/q2.jpg": b"no image", "images/q3.png": bomb()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in (files | {"a.csv": b"pet,age,colour,note\nq1,2,red,loud\n"}).items():
            archive.writestr(name, data)
    client.post("/uploads/pets_like", files={"file": ("q.zip", packed.getvalue())})
    with contextlib.suppress(mm.RunFailed):  # too much of it is refused
        ds.sync(quiet=True)
    upload = next(one["upload"] for one in ds.uploads() if one["name"].startswith("q-"))
    page = client.get(f"/uploads/pets_like/{upload}").text
    [src] = re.findall(r'class="thumb" src="(.*?)"', page)
    seen = client.get(src)
    assert seen.headers["content-type"] == "image/jpeg"
    assert b"<script>" not in seen.content
    assert Image.open(io.BytesIO(seen.content)).size == (256, 192)
    assert client.get(f"/uploads/pets_like/{upload}/image?file=a.csv").status_code == 404


def bomb() -> bytes:
    """A PNG that says it is far larger than it is."""
    written = io.BytesIO()
    Image.new("L", (4, 4)).save(written, "PNG")
    data = bytearray(written.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)
