"""The studio's form and what is being painted, in a real browser: what one writes, cancels, and asks again."""

from __future__ import annotations

import ast
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from browser import OFFLINE, REFUSED, launched, visiting
from conftest import Server, wait_for
from limner.storage import keys

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


def jobs(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get("/v1/jobs").json()["jobs"]
    return found


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (96, 64), "red").save(data, "PNG")
    return data.getvalue()


# The form


@pytest.mark.parametrize("name", ["Pictures", "Width, pixels", "Height, pixels"])
def test_a_number_that_was_taken_out_is_asked_for_beside_its_field(browser: Browser, serve: Serve, name: str) -> None:
    server = serve()
    with visiting(browser, server.url) as visitor:
        visitor.open()
        visitor.page.get_by_role("radio", name="Free").check()
        field = visitor.page.get_by_role("spinbutton", name=name)
        field.fill("")
        visitor.paint("a fox")
        expect(visitor.page.locator("#compose").get_by_role("alert").filter(has_text=" to ")).to_be_visible()
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        assert jobs(server) == []
        field.press_sequentially("1" if name == "Pictures" else "512")
        expect(field).not_to_have_attribute("aria-invalid", "true")
        visitor.paint_button.click()
        visitor.painted()
        assert len(jobs(server)) == 1


def test_what_comes_while_one_writes_leaves_the_words_and_the_place_in_them_alone(
    browser: Browser, serve: Serve
) -> None:
    server = serve()
    with visiting(browser, server.url) as visitor:
        page = visitor.page
        waiting: list[Route] = []
        page.route("**/v1/models", lambda route: waiting.append(route))
        visitor.open()
        wait_for(lambda: page.wait_for_timeout(20) or waiting)
        visitor.prompt.press_sequentially("a fox")
        visitor.prompt.press("Home")
        expect(page.get_by_role("radio", name="Watercolour")).to_have_count(0)
        waiting[0].continue_()  # the models are here, and with them the form's other controls
        expect(page.get_by_role("radio", name="Watercolour")).to_be_visible()
        page.keyboard.type("see ")
        expect(visitor.prompt).to_have_value("see a fox")
        chosen = page.get_by_role("radio", name="16:9")
        chosen.focus()
        page.keyboard.press("Space")
        data = {"name": "girl.png", "mimeType": "image/png", "buffer": picture()}
        page.locator("#reference-file").set_input_files(data)
        expect(page.get_by_role("img", name="Reference: girl.png")).to_be_visible()
        expect(chosen).to_be_focused()
        expect(chosen).to_be_checked()


def test_the_code_of_an_empty_form_and_of_an_equals_sign_is_a_program(browser: Browser, serve: Serve) -> None:
    with visiting(browser, serve().url) as visitor:
        visitor.open()
        for written in ("", "x = y, width=3"):
            visitor.prompt.fill(written)
            visitor.page.get_by_text("More control").click()
            visitor.page.get_by_label("Steps").fill("3")
            visitor.page.get_by_role("button", name="Code").click()
            visitor.dialog.get_by_role("radio", name="Python").check(force=True)
            program = ast.parse(visitor.dialog.locator("code").inner_text())
            (call,) = (
                node
                for node in ast.walk(program)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "generate"
            )
            assert [ast.literal_eval(each) for each in call.args] == [written or "a red fox on a snowy hill"]
            assert {each.arg: ast.literal_eval(each.value) for each in call.keywords}["steps"] == 3
            visitor.page.keyboard.press("Escape")
            visitor.page.get_by_text("More control").click()


# Cancelling and putting away


def test_escape_cancels_only_from_where_one_paints(browser: Browser, serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    with visiting(browser, server.url) as visitor:
        visitor.open()
        page = visitor.page
        visitor.paint("a fox")
        expect(visitor.painting.get_by_text("Step 1 of 4")).to_be_visible()
        page.get_by_role("textbox", name="Seed").press("Escape")
        visitor.prompt.dispatch_event("keydown", {"key": "Escape", "isComposing": True})
        expect(visitor.painting.get_by_role("button", name="Cancel")).to_be_enabled()
        gate.release(1)
        expect(visitor.painting.get_by_text("Step 2 of 4")).to_be_visible()
        visitor.prompt.press("Escape")
        gate.release(100)
        expect(visitor.painting.get_by_text("Cancelled", exact=True)).to_be_visible()
        assert jobs(server)[0]["state"] == "cancelled"


def test_a_request_that_is_cancelled_before_it_is_accepted_is_cancelled(browser: Browser, serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    with visiting(browser, server.url) as visitor:
        visitor.open()
        waiting: list[Route] = []
        visitor.page.route("**/v1/pictures", lambda route: waiting.append(route))
        visitor.paint("a fox")
        visitor.painting.get_by_role("button", name="Cancel").click()
        expect(visitor.painting.get_by_text("Cancelling…")).to_be_visible()
        with visitor.page.expect_response("**/cancel"):
            waiting[0].continue_()
        gate.release(100)
        expect(visitor.painting.get_by_text("Cancelled", exact=True)).to_be_visible()
        assert [job["state"] for job in jobs(server)] == ["cancelled"]


def test_a_job_whose_acceptance_was_lost_on_the_way_has_one_strip(browser: Browser, serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    with visiting(browser, server.url, OFFLINE) as visitor:
        visitor.open()
        tries: list[Route] = []

        def lose(route: Route) -> None:
            tries.append(route)
            if len(tries) > 1:
                route.continue_()
                return
            route.fetch()
            route.abort()

        visitor.page.route("**/v1/pictures", lose)
        visitor.paint("a fox")
        expect(visitor.painting.get_by_text("Step 1 of 4").first).to_be_visible()
        wait_for(lambda: visitor.page.wait_for_timeout(20) or len(tries) == 2)
        gate.release(100)
        expect(visitor.prints).to_have_count(1)
        visitor.painted()
        assert len(tries) == 2
        expect(visitor.painting.get_by_role("article")).to_have_count(1)
        assert len(jobs(server)) == 1


def test_the_focus_goes_on_from_what_is_put_away(browser: Browser, serve: Serve) -> None:
    gate = threading.Semaphore(0)
    with visiting(browser, serve(gate=gate).url) as visitor:
        visitor.open()
        for prompt in ("a fox", "an owl"):
            visitor.paint(prompt)
            expect(visitor.painting.get_by_text(prompt)).to_be_visible()
        gate.release(100)
        away = visitor.painting.get_by_role("button", name="Put away")
        expect(away).to_have_count(2)
        away.first.press("Enter")
        expect(visitor.painting.get_by_role("article")).to_be_focused()
        away.press("Enter")
        expect(visitor.prompt).to_be_focused()


# Keys


def test_what_was_painted_with_another_key_is_taken_off_the_page(browser: Browser, serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    with server.service.database.transaction() as connection:
        one, other = (keys.create(connection, name, keys.Limits(), 0)[1] for name in ("one", "other"))
    with visiting(browser, server.url, REFUSED) as visitor:
        page, dialog = visitor.page, visitor.dialog
        visitor.open()

        def use(key: str) -> None:
            dialog.get_by_label("Your key").fill(key)
            dialog.get_by_role("button", name="Use it").click()
            expect(dialog).to_have_count(0)

        use(one)
        visitor.paint("a fox of mine")
        expect(visitor.painting.get_by_text("Step 1 of 4")).to_be_visible()
        button = page.get_by_role("button", name="Key")
        button.click()
        use(other)
        expect(button).to_be_focused()
        expect(visitor.painting.get_by_role("article")).to_have_count(0)
        expect(visitor.prompt).to_have_value("a fox of mine")
        button.click()
        dialog.get_by_role("button", name="Forget the key").click()
        expect(visitor.prompt).to_have_value("")
        assert "fox of mine" not in page.evaluate("JSON.stringify([localStorage, sessionStorage])")
        use(one)
        expect(visitor.painting.get_by_text("a fox of mine")).to_be_visible()  # it is under way still
        gate.release(100)
        visitor.painted()


# Again, and references


def test_what_same_again_cannot_ask_for_is_said(browser: Browser, serve: Serve) -> None:
    server = serve()
    with visiting(browser, server.url) as visitor:
        visitor.open()
        style = {"style_type": "水彩", "style_weight": 0.5}
        assert server.paint(model="image-01-live", style=style).json()["base_resp"]["status_code"] == 0
        visitor.page.reload()
        visitor.prints.first.click()
        visitor.dialog.get_by_role("button", name="Same again").click()
        expect(visitor.page.get_by_text("Its style had a weight of 0.5; here it counts in full.").first).to_be_visible()
        expect(visitor.page.get_by_role("radio", name="Watercolour")).to_be_checked()
        request = {**jobs(server)[0]["request"], "style": None, "mask": True}  # the tiny model itself has no masks
        visitor.page.evaluate(
            "(request) => document.dispatchEvent(new CustomEvent('limner:again', { detail: { request } }))", request
        )
        expect(visitor.page.get_by_text("Its mask is not kept").first).to_be_visible()
        expect(visitor.page.get_by_role("radio", name="As the words say")).to_be_checked()


def test_an_address_without_a_scheme_or_without_a_picture_is_refused(browser: Browser, serve: Serve) -> None:
    with visiting(browser, serve().url, REFUSED) as visitor:
        visitor.open()
        field = visitor.page.locator("#reference-url")
        for address, said in (
            ("example.com/cat.jpg", "begins with http"),
            (f"{visitor.url}/files/{'0' * 32}.jpg", "no picture that can be read"),
        ):
            field.fill(address)
            field.press("Enter")
            expect(visitor.page.get_by_role("alert").filter(has_text=said)).to_be_visible()
            expect(field).to_have_attribute("aria-invalid", "true")


def test_a_picture_that_is_dragged_from_the_gallery_is_taken_as_it_is_painted_and_once(
    browser: Browser, serve: Serve
) -> None:
    server = serve()
    assert server.paint(width=1024, height=1024).json()["base_resp"]["status_code"] == 0
    with visiting(browser, server.url) as visitor:
        visitor.open()
        address = visitor.prints.first.get_by_role("img").get_attribute("src")
        assert address is not None
        assert "side=" in address
        visitor.page.evaluate(
            """(address) => {
                const data = new DataTransfer();
                data.setData("text/uri-list", address);
                const given = { bubbles: true, cancelable: true, dataTransfer: data };
                for (const name of ["drop", "drop", "drop", "drop", "drop", "drop", "drop", "drop", "drop", "drop"]) {
                    document.body.dispatchEvent(new DragEvent(name, given));
                }
            }""",
            address,
        )
        expect(visitor.page.get_by_role("alert").filter(has_text="remove one first")).to_be_visible()
        most = next(m for m in server.client.get("/v1/models").json()["data"] if m["id"] == "image-01")["limner"]
        held = visitor.page.get_by_role("img", name="Reference: ")
        expect(held).to_have_count(most["references"])
        size = held.first.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")
        assert size == 1024
