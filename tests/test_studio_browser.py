"""The studio in a real browser, against real services: what a visitor does there, by pointer, by keyboard and by file.

Parts of the page are found by what a screen reader says of them. In every test a broken policy, a complaint on the
console and a request to elsewhere are failures.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from browser import OFFLINE, REFUSED, Visitor, launched, visiting
from conftest import AnySizePipeline, Server, serving, wait_for
from limner.backends.local import LocalBackend
from limner.engine.core import Encoded, Request
from limner.engine.engine import Engine
from servers import free_ports

Serve = Callable[..., Server]
PHONE = {"width": 390, "height": 844}
KEY = "sk-studio-right"
PAINTED = 52
LAST = PAINTED - 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


@pytest.fixture(scope="module")
def gallery_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with more pictures than the gallery asks for at a time, which tests look at and leave as they are."""
    with serving(tmp_path_factory.mktemp("gallery"), queue_limit=100) as server:
        for number in range(PAINTED):
            body = {"prompt": f"picture {number}", "seed": number, "width": 512, "height": 512}
            reply = server.client.post("/v1/pictures", json=body, headers={"Prefer": "respond-async"})
            assert reply.status_code == 202
        wait_for(lambda: len(server.client.get("/v1/jobs?state=done&limit=100").json()["jobs"]) == PAINTED)
        yield server


@pytest.fixture
def visit(browser: Browser, serve: Serve) -> Iterator[Callable[..., tuple[Server, Visitor]]]:
    """Opens the page of a service of the test's own, with an eye on what goes wrong."""
    open_now: list[Any] = []

    def start(
        *allowed: re.Pattern[str], window: dict[str, Any] | None = None, **options: Any
    ) -> tuple[Server, Visitor]:
        server = serve(**options)
        visiting_now = visiting(browser, server.url, *allowed, **(window or {}))
        open_now.append(visiting_now)
        visitor = visiting_now.__enter__()
        visitor.open()
        return server, visitor

    yield start
    failures = []
    for each in reversed(open_now):
        try:
            each.__exit__(None, None, None)
        except AssertionError as error:
            failures.append(str(error))
    assert failures == []


def file(name: str = "girl.png", color: str = "red", size: tuple[int, int] = (96, 64)) -> dict[str, Any]:
    """A picture as an input of files takes it."""
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": data.getvalue()}


def only_job(server: Server) -> dict[str, Any]:
    (job,) = server.client.get("/v1/jobs").json()["jobs"]
    found: dict[str, Any] = job
    return found


# Painting


def test_an_example_is_painted_with_two_clicks(visit: Any) -> None:
    server, visitor = visit()
    expect(visitor.gallery.get_by_text("Nothing hangs here yet.")).to_be_visible()
    visitor.page.get_by_role("button", name="a red fox on a snowy hill").click()
    visitor.paint_button.click()
    visitor.painted()
    job = only_job(server)
    assert (job["request"]["prompt"], job["request"]["previews"]) == ("a red fox on a snowy hill", True)
    expect(visitor.painting.get_by_text(f"Seed {job['pictures'][0]['seed']}")).to_be_visible()
    expect(visitor.prints).to_have_count(1)
    expect(visitor.painting.get_by_text("A note.")).to_be_visible()


def test_every_control_of_the_form_is_in_the_request(visit: Any) -> None:
    server, visitor = visit()
    page = visitor.page
    visitor.prompt.fill("a fox")
    page.get_by_role("radio", name="16:9").check()
    page.get_by_role("radio", name="Watercolour").check()
    page.get_by_role("button", name="One picture more").click()
    page.get_by_role("textbox", name="Seed").fill("-9223372036854775808")
    page.get_by_text("More control").click()
    page.get_by_label("Steps").fill("7")
    page.get_by_label("Guidance").fill("2.5")
    page.get_by_label("Strength").fill("0.5")
    page.get_by_label("Sampler").select_option("euler")
    page.get_by_label("File").select_option("png")
    page.get_by_role("switch", name="Enrich the prompt").check()
    page.get_by_role("switch", name="Watermark").check()
    visitor.paint_button.click()
    visitor.painted()
    request = only_job(server)["request"]
    asked = {
        "prompt": "a fox", "width": 1280, "height": 720, "style": "watercolor", "n": 2, "steps": 7, "guidance": 2.5,
        "seed": "-9223372036854775808", "strength": 0.5, "sampler": "euler", "format": "png", "prompt_optimizer": True,
        "watermark": True,
    }  # fmt: skip
    assert {name: request[name] for name in asked} == asked
    assert [picture["seed"] for picture in only_job(server)["pictures"]] == [
        "-9223372036854775808",
        "-9223372036854775807",
    ]


def test_a_size_of_ones_own_is_painted_and_a_wrong_one_is_told_beside_its_field(visit: Any) -> None:
    server, visitor = visit()
    page = visitor.page
    visitor.prompt.fill("a fox")
    page.get_by_role("radio", name="Free").check()
    page.get_by_label("Width, pixels").fill("1001")
    page.get_by_label("Height, pixels").fill("600")
    visitor.paint_button.click()
    expect(page.get_by_role("alert").filter(has_text="512 to 2048")).to_be_visible()
    assert server.client.get("/v1/jobs").json()["jobs"] == []
    page.get_by_label("Width, pixels").fill("1000")
    visitor.paint_button.click()
    visitor.painted()
    assert [only_job(server)["request"][side] for side in ("width", "height")] == [1000, 600]


def test_an_empty_prompt_and_a_refusal_of_the_service_are_told_in_sentences(visit: Any) -> None:
    _, visitor = visit(REFUSED, max_prompt_chars=60)
    visitor.paint_button.click()
    expect(visitor.page.get_by_role("alert").filter(has_text="Say what you would like to see.")).to_be_visible()
    visitor.prompt.fill("x" * 61)
    visitor.paint_button.click()
    expect(visitor.page.get_by_role("alert").filter(has_text="at most 60 characters")).to_be_visible()
    visitor.prompt.fill("\u200b" * 9 + "fox")  # over a tenth is invisible: only the service knows
    visitor.paint_button.click()
    expect(visitor.page.get_by_role("alert").filter(has_text="invisible")).to_be_visible()


def test_a_job_that_fails_says_why(visit: Any) -> None:
    _, visitor = visit()
    visitor.paint("refuse this")
    said = visitor.painting.get_by_text("This prompt cannot be painted. Use another.")
    expect(said.locator("visible=true")).to_have_count(1)


def test_steps_are_shown_as_they_come_and_the_job_can_be_cancelled(visit: Any) -> None:
    gate = threading.Semaphore(0)
    server, visitor = visit(gate=gate)
    visitor.paint("a fox")
    bar = visitor.painting.get_by_role("progressbar")
    gate.release(2)
    expect(visitor.painting.get_by_text("Step 3 of 4")).to_be_visible()
    expect(bar).to_have_attribute("aria-valuenow", "50")
    visitor.check_accessible("painting")
    visitor.painting.get_by_role("button", name="Cancel").click()
    gate.release(100)
    expect(visitor.painting.get_by_text("Cancelled", exact=True)).to_be_visible()
    assert only_job(server)["state"] == "cancelled"
    visitor.painting.get_by_role("button", name="Put away").click()
    expect(visitor.painting.get_by_text("Cancelled")).to_have_count(0)


def test_a_reload_while_painting_finds_the_job_again(visit: Any) -> None:
    gate = threading.Semaphore(0)
    server, visitor = visit(gate=gate)
    visitor.paint("a fox")
    gate.release(1)
    expect(visitor.painting.get_by_text("Step 2 of 4")).to_be_visible()
    visitor.page.reload()
    expect(visitor.painting.get_by_text("Step 2 of 4")).to_be_visible()
    expect(visitor.prompt).to_have_value("a fox")
    gate.release(100)
    visitor.painted()
    expect(visitor.prints).to_have_count(1)
    assert only_job(server)["state"] == "done"


def test_two_jobs_are_shown_side_by_side_and_the_second_says_what_comes_first(visit: Any) -> None:
    gate = threading.Semaphore(0)
    _, visitor = visit(gate=gate, queue_limit=1)
    visitor.paint("a fox")
    expect(visitor.painting.get_by_text("Step 1 of 4")).to_be_visible()
    visitor.paint("an owl")
    expect(visitor.painting.get_by_text("1 picture comes first")).to_be_visible()
    gate.release(100)
    expect(visitor.painting.get_by_text("Painted", exact=True)).to_have_count(2)


# References


def reference(visitor: Visitor, name: str) -> Any:
    return visitor.page.get_by_role("img", name=f"Reference: {name}")


def test_a_reference_comes_by_file_and_goes_again(visit: Any) -> None:
    server, visitor = visit()
    visitor.page.locator("#reference-file").set_input_files([file("girl.png"), file("boy.png", "blue")])
    for name in ("girl.png", "boy.png"):
        expect(reference(visitor, name)).to_be_visible()
    visitor.check_accessible("form filled")
    visitor.page.get_by_role("button", name="Remove the reference girl.png").click()
    expect(reference(visitor, "girl.png")).to_have_count(0)
    visitor.paint("a girl")
    visitor.painted()
    assert only_job(server)["request"]["references"] == 1


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_reference_is_dropped_or_pasted_anywhere(visit: Any, way: str) -> None:
    server, visitor = visit()
    text = base64.b64encode(file()["buffer"]).decode()
    visitor.page.evaluate(
        """([text, way]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "girl.png", { type: "image/png" }));
            const given = { bubbles: true, cancelable: true };
            const drag = (name) => new DragEvent(name, { ...given, dataTransfer: data });
            const events = way === "paste"
                ? [new ClipboardEvent("paste", { ...given, clipboardData: data })]
                : ["dragenter", "dragover", "drop"].map(drag);
            for (const event of events) document.body.dispatchEvent(event);
        }""",
        [text, way],
    )
    expect(reference(visitor, "girl.png")).to_be_visible()
    visitor.paint("a girl")
    visitor.painted()
    assert only_job(server)["request"]["references"] == 1


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """Another site, which gives the files of a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_reference_behind_an_address_is_fetched_by_the_service_alone(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "girl.png").write_bytes(file()["buffer"])
    with site(tmp_path / "site") as address:
        server, visitor = visit(REFUSED, reference_allow=("127.0.0.0/8",))
        field = visitor.page.get_by_role("textbox", name=re.compile("^or a (web address|link)"))
        field.fill(f"{address}/nothing.png")
        field.press("Enter")
        expect(visitor.page.get_by_role("alert").filter(has_text="404")).to_be_visible()
        field.fill(f"{address}/girl.png")
        visitor.page.get_by_role("button", name="Add the picture at this address").click()
        expect(reference(visitor, f"{address}/girl.png")).to_be_visible()
        visitor.paint("a girl")
        visitor.painted()
        assert only_job(server)["request"]["references"] == 1


def test_a_private_address_and_a_file_that_is_no_picture_are_refused_with_a_sentence(visit: Any) -> None:
    _, visitor = visit(REFUSED)
    field = visitor.page.get_by_role("textbox", name=re.compile("^or a (web address|link)"))
    field.fill("http://127.0.0.1:9/girl.png")
    field.press("Enter")
    expect(visitor.page.get_by_role("alert").filter(has_text="address")).to_be_visible()
    visitor.page.locator("#reference-file").set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    expect(visitor.page.get_by_role("alert").filter(has_text="notes.png is not a JPEG, PNG or WebP")).to_be_visible()


# The gallery


def test_the_gallery_goes_on_as_one_scrolls(browser: Browser, gallery_server: Server) -> None:
    with visiting(browser, gallery_server.url) as visitor:
        visitor.open()
        expect(visitor.prints.first).to_have_accessible_name(f"picture {LAST}")
        while visitor.prints.count() < PAINTED:
            visitor.page.mouse.wheel(0, 3000)
            visitor.page.wait_for_timeout(20)
        expect(visitor.prints).to_have_count(PAINTED)
        expect(visitor.prints.last).to_have_accessible_name("picture 0")
        names = visitor.prints.evaluate_all("all => all.map((one) => one.querySelector('img').alt)")
        assert names == [f"picture {number}" for number in reversed(range(PAINTED))]
        expect(visitor.page.get_by_role("button", name="Show more")).to_be_hidden()


def test_the_viewer_is_used_by_keyboard_alone(browser: Browser, gallery_server: Server) -> None:
    with visiting(browser, gallery_server.url) as visitor:
        visitor.open()
        page = visitor.page
        visitor.prints.first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        large = visitor.dialog.get_by_role("img").first
        expect(large).to_have_accessible_name(f"picture {LAST - 1}")
        expect(visitor.dialog.get_by_text(re.compile(r"^[0-9]\.[0-9] seconds$"))).to_be_visible()
        for key, older in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2)):
            page.keyboard.press(key)
            expect(large).to_have_accessible_name(f"picture {LAST - older}")
        assert page.evaluate("document.querySelector('dialog[open]').contains(document.activeElement)")
        for _ in range(30):  # Tab stays within
            page.keyboard.press("Tab")
        assert page.evaluate("!document.querySelector('main').contains(document.activeElement)")
        visitor.check_accessible("viewer")
        page.keyboard.press("Escape")
        expect(visitor.dialog).to_have_count(0)
        expect(visitor.prints.nth(2)).to_be_focused()


def test_the_whole_page_is_reached_by_tab_and_painted_by_keys(visit: Any) -> None:
    server, visitor = visit()
    page = visitor.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the prompt")).to_be_focused()
    page.keyboard.press("Enter")
    expect(visitor.prompt).to_be_focused()
    page.keyboard.type("a fox")
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert {"reference-file", "reference-url", "aspect_ratio", "style", "n", "seed", "locked", "paint", "code"} <= seen
    visitor.prompt.focus()
    page.keyboard.press("Control+Enter")
    visitor.painted()
    assert only_job(server)["request"]["prompt"] == "a fox"


def test_same_again_paints_the_same_bytes(visit: Any) -> None:
    server, visitor = visit()
    visitor.paint("a fox")
    visitor.painted()
    visitor.prompt.fill("something else")
    visitor.prints.first.click()
    visitor.dialog.get_by_role("button", name="Same again").click()
    expect(visitor.prompt).to_have_value("a fox")
    visitor.paint_button.click()
    expect(visitor.prints).to_have_count(2)
    one, other = server.client.get("/v1/jobs").json()["jobs"]
    assert one["pictures"][0]["sha256"] == other["pictures"][0]["sha256"]
    assert one["pictures"][0]["url"] != other["pictures"][0]["url"]


def test_a_picture_of_the_gallery_becomes_a_reference(visit: Any) -> None:
    server, visitor = visit()
    visitor.paint("a fox")
    visitor.painted()
    visitor.prints.first.click()
    visitor.dialog.get_by_role("button", name="Use as reference").click()
    expect(visitor.page.get_by_role("img", name=re.compile("^Reference: "))).to_be_visible()
    visitor.paint("the same fox again")
    expect(visitor.prints).to_have_count(2)
    assert server.client.get("/v1/jobs").json()["jobs"][0]["request"]["references"] == 1


def test_two_pictures_are_compared(browser: Browser, gallery_server: Server) -> None:
    with visiting(browser, gallery_server.url) as visitor:
        visitor.open()
        visitor.gallery.get_by_role("button", name="Compare").click()
        visitor.prints.nth(0).click()
        visitor.prints.nth(1).click()
        for number in (LAST, LAST - 1):
            expect(visitor.dialog.get_by_role("img", name=f"picture {number}")).to_be_visible()
        expect(visitor.dialog.get_by_role("row", name=f"Seed {LAST} {LAST - 1}")).to_be_visible()
        visitor.check_accessible("compare")
        visitor.dialog.get_by_role("button", name="Wipe").click()
        slider = visitor.dialog.get_by_role("slider")
        slider.focus()
        visitor.page.keyboard.press("ArrowRight")
        expect(slider).to_have_value("51")
        visitor.check_accessible("compare, wiped")
        visitor.page.keyboard.press("Escape")
        expect(visitor.dialog).to_have_count(0)


def test_a_picture_is_downloaded_as_it_is_and_in_other_formats(browser: Browser, gallery_server: Server) -> None:
    with visiting(browser, gallery_server.url) as visitor:
        visitor.open()
        visitor.prints.first.click()
        picture = gallery_server.client.get("/v1/jobs").json()["jobs"][0]["pictures"][0]
        whole = gallery_server.client.get(picture["url"]).content
        for name, kind in (("JPEG", "jpg"), ("PNG", "png"), ("WebP", "webp")):
            with visitor.page.expect_download() as coming:
                visitor.dialog.get_by_role("button", name=name, exact=True).click()
            assert coming.value.suggested_filename == f"picture-{LAST}-{LAST}.{kind}"
            data = Path(coming.value.path()).read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                assert (image.format, image.size) == (name.upper(), (512, 512))
            assert (data == whole) == (kind == "jpg")


def test_prompt_and_seed_are_copied(browser: Browser, gallery_server: Server) -> None:
    with visiting(browser, gallery_server.url, permissions=["clipboard-read", "clipboard-write"]) as visitor:
        visitor.open()
        visitor.prints.first.click()
        for button, text in (("Copy prompt", f"picture {LAST}"), ("Copy seed", f"{LAST}")):
            visitor.dialog.get_by_role("button", name=button).click()
            expect(visitor.dialog.get_by_text("Copied.").first).to_be_visible()
            assert visitor.page.evaluate("navigator.clipboard.readText()") == text


def test_deleting_can_be_undone_and_is_for_good_after_that(visit: Any) -> None:
    server, visitor = visit()
    for prompt in ("a fox", "an owl"):
        assert server.paint(prompt=prompt).status_code == 200
    visitor.page.clock.install()
    visitor.page.reload()
    expect(visitor.prints).to_have_count(2)
    visitor.prints.first.click()
    visitor.dialog.get_by_role("button", name="Delete").click()
    expect(visitor.prints).to_have_count(1)
    visitor.prints.first.click()
    visitor.dialog.get_by_role("button", name="Undo").click()  # a dialog makes all but itself inert
    visitor.page.keyboard.press("Escape")
    expect(visitor.prints).to_have_count(2)
    expect(visitor.prints.first).to_have_accessible_name("an owl")
    assert len(server.client.get("/v1/jobs").json()["jobs"]) == 2
    visitor.prints.first.focus()
    visitor.page.keyboard.press("Delete")
    expect(visitor.prints).to_have_count(1)
    visitor.page.mouse.move(1, 1)  # the note stays for as long as one points at it
    visitor.page.clock.fast_forward(5_000)
    assert len(server.client.get("/v1/jobs").json()["jobs"]) == 2
    visitor.page.clock.fast_forward(2_000)
    wait_for(lambda: len(server.client.get("/v1/jobs").json()["jobs"]) == 1)
    visitor.prints.first.focus()
    visitor.page.keyboard.press("Delete")
    visitor.page.reload()  # who leaves meanwhile has it deleted
    wait_for(lambda: server.client.get("/v1/jobs").json()["jobs"] == [])


def test_a_picture_of_a_running_job_is_opened_and_the_rest_still_comes(visit: Any) -> None:
    gate = threading.Semaphore(0)
    pipeline = AnySizePipeline(max_batch=1, gate=gate)
    backend = LocalBackend(Engine(dict.fromkeys(("image-01", "image-01-live"), pipeline), limit=64))
    _, visitor = visit(gate=gate, backend=backend)
    page = visitor.page
    page.get_by_role("button", name="One picture more").click()
    visitor.paint("a fox")
    gate.release(7)  # of eight evaluations for two pictures
    visitor.painting.get_by_role("link", name="Picture 1: a fox").click()
    expect(visitor.dialog.get_by_role("img").first).to_have_accessible_name("a fox")
    page.keyboard.press("Escape")
    expect(visitor.prints).to_have_count(1)
    gate.release(100)
    visitor.painted()
    expect(visitor.prints).to_have_count(2)


def test_a_list_that_was_asked_for_before_a_picture_was_painted_does_not_take_it_down(visit: Any) -> None:
    server, visitor = visit()
    assert server.paint(prompt="an owl").status_code == 200
    visitor.page.reload()
    expect(visitor.prints).to_have_count(1)
    held: list[Any] = []

    def hold(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.extend((route, route.fetch()))

    visitor.page.route("**/v1/jobs?state=done*", hold)
    visitor.page.evaluate("document.dispatchEvent(new CustomEvent('limner:online'))")
    while not held:
        visitor.page.wait_for_timeout(10)
    visitor.paint("a fox")
    visitor.painted()
    expect(visitor.prints).to_have_count(2)
    route, reply = held
    with visitor.page.expect_response("**/v1/jobs?state=done*"):
        route.fulfill(response=reply)
    visitor.page.wait_for_timeout(100)
    expect(visitor.prints).to_have_count(2)


def test_escape_ends_the_choosing_of_two_and_not_what_is_being_painted(visit: Any) -> None:
    gate = threading.Semaphore(100)
    server, visitor = visit(gate=gate)
    for prompt in ("a fox", "an owl"):
        assert server.paint(prompt=prompt).status_code == 200
    while gate.acquire(blocking=False):
        pass
    visitor.page.reload()
    expect(visitor.prints).to_have_count(2)
    visitor.paint("a hare")
    expect(visitor.painting.get_by_text("Step 1 of 4")).to_be_visible()
    visitor.gallery.get_by_role("button", name="Compare").click()
    expect(visitor.gallery.get_by_text("Choose two pictures.")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    expect(visitor.gallery.get_by_text("Choose two pictures.")).to_have_count(0)
    gate.release(100)
    visitor.painted()


# Keys


def test_what_was_deleted_under_one_key_is_deleted_under_that_key(visit: Any) -> None:
    server, visitor = visit(REFUSED, api_keys=f"{KEY}, sk-studio-other")
    header = {"Authorization": f"Bearer {KEY}"}
    assert server.paint(header, prompt="a fox").status_code == 200
    visitor.dialog.get_by_label("Your key").fill(KEY)
    visitor.dialog.get_by_role("button", name="Use it").click()
    visitor.prints.first.focus()
    visitor.page.keyboard.press("Delete")
    expect(visitor.page.get_by_role("button", name="Undo")).to_be_visible()
    visitor.page.get_by_role("button", name="Key").click()
    visitor.dialog.get_by_label("Your key").fill("sk-studio-other")
    visitor.dialog.get_by_role("button", name="Use it").click()
    wait_for(lambda: server.client.get("/v1/jobs", headers=header).json()["jobs"] == [])
    expect(visitor.page.get_by_role("button", name="Undo")).to_have_count(0)


def test_a_key_is_asked_for_refused_and_remembered_as_long_as_was_said(visit: Any) -> None:
    _, visitor = visit(REFUSED, api_keys=KEY)
    page = visitor.page
    field = visitor.dialog.get_by_label("Your key")
    expect(field).to_be_focused()
    visitor.check_accessible("key")
    field.fill("sk-wrong")
    field.press("Enter")
    expect(visitor.dialog.get_by_text("This key is not known here.")).to_be_visible()
    field.fill(KEY)
    field.press("Enter")
    expect(visitor.dialog).to_have_count(0)
    visitor.paint("a fox")
    visitor.painted()
    page.reload()
    expect(visitor.prints).to_have_count(1)
    assert page.evaluate("JSON.stringify(localStorage)").count(KEY) == 0
    another = page.context.new_page()  # another tab is another session
    another.goto(f"{visitor.url}/")
    expect(another.get_by_role("dialog").get_by_label("Your key")).to_be_visible()
    another.close()
    page.get_by_role("button", name="Key").click()
    visitor.dialog.get_by_label("Your key").fill(KEY)
    visitor.dialog.get_by_role("checkbox", name="Remember it on this device").check()
    visitor.dialog.get_by_role("button", name="Use it").click()
    another = page.context.new_page()
    another.goto(f"{visitor.url}/")
    expect(another.get_by_role("region", name="Pictures").get_by_role("img")).to_have_count(1)
    visitor.prints.first.click()
    expect(visitor.dialog).to_have_accessible_name("Picture")
    another.get_by_role("button", name="Key").click()
    another.get_by_role("button", name="Forget the key").click()
    expect(another.get_by_role("dialog").get_by_label("Your key")).to_be_visible()
    expect(visitor.dialog).to_have_accessible_name("Key")  # in the first tab, too, and nothing of the old one's is left
    expect(visitor.prints).to_have_count(0)
    assert another.evaluate("JSON.stringify([localStorage, sessionStorage])").count(KEY) == 0


# The service goes and comes back


def test_a_service_that_went_while_nothing_was_painted_is_found_again(browser: Browser, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with visiting(browser, f"http://127.0.0.1:{port}", OFFLINE) as visitor:
        away = visitor.page.get_by_text("The service does not answer. Trying again…").first
        with serving(tmp_path, at=port):
            visitor.open()
            visitor.paint("a fox")
            visitor.painted()
            expect(visitor.prints).to_have_count(1)
        visitor.paint("an owl")
        expect(away).to_be_visible()
        visitor.check_accessible("without the service")
        with serving(tmp_path, at=port) as server:
            expect(away).to_be_hidden()
            expect(visitor.prints).to_have_count(2)
            jobs = server.client.get("/v1/jobs").json()["jobs"]
            assert [job["request"]["prompt"] for job in jobs] == ["an owl", "a fox"]


@contextmanager
def real_service(folder: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """`limner serve` with the built-in painter, in a process of its own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
    environment = plain | {"LIMNER_DATA_DIR": str(folder), "LIMNER_PORT": str(port), **settings}
    command = [str(Path(sys.executable).with_name("limner")), "serve"]
    with (folder.parent / "log").open("a") as log:
        running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert running.stdout is not None
            assert "Limner" in running.stdout.readline()
            wait_for(lambda: running.poll() is not None or answers(port))
            yield running
        finally:
            running.kill()
            running.communicate()


def answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def test_the_real_painter_paints_again_by_code_and_outlives_a_crash(browser: Browser, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    start = partial(real_service, tmp_path / "data", port, LIMNER_LEASE_SECONDS="1")
    with visiting(browser, f"http://127.0.0.1:{port}", OFFLINE) as visitor:
        page = visitor.page
        with start() as running:
            visitor.open()
            page.get_by_role("button", name="a red fox on a snowy hill").click()
            page.get_by_role("radio", name="Free").check()
            page.get_by_label("Width, pixels").fill("512")
            page.get_by_label("Height, pixels").fill("512")
            visitor.paint_button.click()
            visitor.painted()
            painted = httpx2.get(f"{visitor.url}/v1/jobs", trust_env=False).json()["jobs"][0]["pictures"][0]
            page.get_by_role("checkbox", name="Keep this seed").check(force=True)
            page.get_by_role("button", name="Code").click()
            visitor.dialog.get_by_role("radio", name="JavaScript").check(force=True)
            code = visitor.dialog.locator("code").inner_text()
            again = page.evaluate(f"(async () => {{ {code}; return result; }})()")
            jobs = httpx2.get(f"{visitor.url}/v1/jobs", trust_env=False).json()["jobs"]
            assert jobs[0]["id"] == again["id"]
            assert jobs[0]["pictures"][0]["sha256"] == painted["sha256"]
            page.keyboard.press("Escape")

            visitor.prompt.fill("an owl reading a book")
            page.get_by_text("More control").click()
            page.get_by_label("Steps").fill("50")
            visitor.paint_button.click()
            expect(visitor.painting.get_by_text(re.compile("Step [1-9][0-9]* of 50"))).to_be_visible()
            running.send_signal(signal.SIGKILL)
        expect(page.get_by_text("The service does not answer. Trying again…").first).to_be_visible()
        with start():
            visitor.painted()
            expect(visitor.prints).to_have_count(3)


def test_the_code_to_copy_paints_the_same_picture(visit: Any, tmp_path: Path) -> None:
    server, visitor = visit(REFUSED, api_keys=KEY)
    page = visitor.page
    visitor.dialog.get_by_label("Your key").fill(KEY)
    visitor.dialog.get_by_role("button", name="Use it").click()
    page.locator("#reference-file").set_input_files(file("it's a $girl.png"))
    expect(reference(visitor, "it's a $girl.png")).to_be_visible()
    visitor.prompt.fill("""it's a "fox" \\ `$HOME` 狐狸""")
    page.get_by_role("textbox", name="Seed").fill("-5")
    page.get_by_text("More control").click()
    page.get_by_label("Steps").fill("3")
    page.get_by_role("switch", name="Watermark").check()
    visitor.paint_button.click()
    visitor.painted()
    header = {"Authorization": f"Bearer {KEY}"}
    (job,) = server.client.get("/v1/jobs", headers=header).json()["jobs"]
    (tmp_path / "it's a $girl.png").write_bytes(file()["buffer"])
    page.get_by_role("button", name="Code").click()
    visitor.check_accessible("code")
    bash = [shutil.which("bash") or "sh", "-euo", "pipefail", "-c"]
    shown = [sys.executable, "-W", "error", "-c"]
    for name, command, ending in (("curl", bash, ""), ("Python", shown, "\nprint(result.id)")):
        visitor.dialog.get_by_role("radio", name=name).check(force=True)
        code = visitor.dialog.locator("code").inner_text()
        assert KEY not in code
        environment = {**os.environ, "LIMNER_API_KEY": KEY}
        done = subprocess.run(
            [*command, code + ending], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{name}: {code}: {done.stderr}"
        again = json.loads(done.stdout)["id"] if name == "curl" else done.stdout.strip()
        same = server.client.get(f"/v1/jobs/{again}", headers=header).json()
        for part in ("prompt", "steps", "watermark", "references", "seed"):
            assert same["request"][part] == job["request"][part], f"{name}: {part}"
        assert same["pictures"][0]["sha256"] == job["pictures"][0]["sha256"], name


# On every screen, in every language, for everybody


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_nothing_is_out_of_reach_and_no_rule_of_accessibility_is_broken(
    browser: Browser, gallery_server: Server, serve: Serve, phone: bool
) -> None:
    window: dict[str, Any] = {"viewport": PHONE if phone else {"width": 1440, "height": 900}}
    if phone:
        window |= {"has_touch": True, "is_mobile": True}

    def fits(visitor: Visitor, name: str) -> None:
        wide = visitor.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name}: {wide} pixels to the side"
        visitor.check_accessible(name)
        visitor.page.emulate_media(color_scheme="dark")
        visitor.check_accessible(f"{name}, dark", "color-contrast")  # nothing else changes with the colours
        visitor.page.emulate_media(color_scheme="light")

    with visiting(browser, serve().url, **window) as visitor:
        visitor.open()
        fits(visitor, "empty")
    with visiting(browser, gallery_server.url, **window) as visitor:
        visitor.open()
        page = visitor.page
        expect(visitor.prints.first).to_be_visible()
        page.get_by_text("More control").click()
        page.locator("#reference-file").set_input_files(file())
        expect(reference(visitor, "girl.png")).to_be_visible()
        visitor.prompt.fill("a fox " * 40)
        fits(visitor, "gallery and a form that is filled")
        if phone:
            controls = ":is(button, input:not(.visually-hidden), label, select, textarea, summary):visible"
            out_of_reach = page.locator(f"#compose {controls}").evaluate_all(
                """all => all.filter((one) => {
                    one.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
                    const { left, right } = one.getBoundingClientRect();
                    return left < -1 || right > innerWidth + 1;
                }).map((one) => one.outerHTML)"""
            )
            assert out_of_reach == []
            visitor.paint_button.scroll_into_view_if_needed()
            expect(visitor.paint_button).to_be_in_viewport()
        page.get_by_role("button", name="Usage").click()
        fits(visitor, "usage")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Key").click()
        fits(visitor, "key")
        page.keyboard.press("Escape")
        visitor.prints.first.click()
        expect(visitor.dialog.get_by_role("img").first).to_be_visible()
        fits(visitor, "viewer")
        page.keyboard.press("Escape")
        visitor.gallery.get_by_role("button", name="Compare").click()
        fits(visitor, "choosing two")
        for number in (0, 1):
            visitor.prints.nth(number).click()
        fits(visitor, "compare")


def test_the_colours_follow_the_system_until_one_is_chosen(visit: Any) -> None:
    _, visitor = visit(window={"color_scheme": "dark"})
    page = visitor.page

    def light() -> bool:
        shade = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        if shade == "rgba(0, 0, 0, 0)":
            shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(float(number) for number in re.findall(r"[\d.]+", shade)[:3]) > (1.5 if "color(" in shade else 380)

    assert not light()
    page.emulate_media(color_scheme="light")
    assert light()
    page.get_by_role("button", name="Colours: Auto").click()
    page.get_by_role("button", name="Colours: Light").click()
    expect(page.get_by_role("button", name="Colours: Dark")).to_be_visible()
    assert not light()
    page.reload()
    expect(page.get_by_role("button", name="Colours: Dark")).to_be_visible()
    assert not light()


def test_it_speaks_chinese_to_who_does_and_changes_on_the_way(visit: Any) -> None:
    _, visitor = visit(window={"locale": "zh-CN"})
    page = visitor.page
    expect(page.get_by_role("textbox", name="提示词", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.get_by_role("textbox", name="提示词", exact=True).fill("雪山上的红狐狸")
    visitor.paint_button.click()
    expect(page.get_by_role("img", name="雪山上的红狐狸").first).to_be_visible()
    visitor.check_accessible("Chinese")
    left = page.evaluate("document.body.innerText").replace("雪山上的红狐狸", "")
    english = {"Limner", "English", "Ctrl", "A", "note", "JPEG", "PNG", "WEBP", "WebP"}
    assert set(re.findall(r"[A-Za-z]{2,}", left)) - english == set()
    page.get_by_role("button", name="English").click()
    expect(visitor.prompt).to_have_value("雪山上的红狐狸")
    assert page.evaluate("document.documentElement.lang") == "en-GB"
    page.reload()
    expect(visitor.prompt).to_be_visible()


def test_both_languages_say_the_same_things(visit: Any) -> None:
    _, visitor = visit()
    words = visitor.page.evaluate(
        """async () => {
            const read = await Promise.all(["compose", "gallery"].map((name) => import(`/studio/words/${name}.js`)));
            return read.map(({ en, zh }) => ({ en, zh }));
        }"""
    )
    places = re.compile(r"\{(\w+)")
    for each in words:
        assert each["en"].keys() == each["zh"].keys()
        assert len(each["en"]) > 10
        for key, sentence in each["en"].items():
            assert sentence.strip(), key
            assert each["zh"][key].strip(), key
            assert set(places.findall(each["zh"][key])) <= set(places.findall(sentence)), key
    assert not words[0]["en"].keys() & words[1]["en"].keys()


class LearnedPipeline(AnySizePipeline):
    """Repeats a prompt in a note, as painters do with words that they do not know."""

    def encode(self, request: Request) -> Encoded:
        return replace(super().encode(request), notes=(f"Not known here: {request.prompt}.",))


def test_one_long_word_breaks_rather_than_the_page(visit: Any) -> None:
    pipelines = dict.fromkeys(("image-01", "image-01-live"), LearnedPipeline())
    backend = LocalBackend(Engine(pipelines, limit=64))
    _, visitor = visit(backend=backend, window={"viewport": {"width": 320, "height": 800}})
    word = "Donaudampfschifffahrt" * 15

    def fits(where: str) -> None:
        wide = visitor.page.evaluate(
            "Math.max(...['dialog[open]', ':root'].map((name) => document.querySelector(name))"
            ".filter(Boolean).map((one) => one.scrollWidth - one.clientWidth))"
        )
        assert wide <= 0, f"{where}: {wide} pixels to the side"

    visitor.paint(word)
    visitor.painted()
    expect(visitor.painting.get_by_text("Not known here")).to_be_visible()
    fits("painted")
    visitor.prints.first.click()
    expect(visitor.dialog.get_by_text("Not known here")).to_be_visible()
    fits("viewer")


def test_text_may_be_twice_as_large(visit: Any) -> None:
    _, visitor = visit(window={"viewport": {"width": 640, "height": 800}})
    visitor.page.evaluate("document.documentElement.style.fontSize = '200%'")
    expect(visitor.paint_button).to_be_visible()
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
