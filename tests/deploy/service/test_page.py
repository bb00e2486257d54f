"""The page in a real browser (Debian's Chromium, driven by Playwright): what an operator does with it."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest
from PIL import Image

from chromium import CHROMIUM, NONE, launched, playwright
from deploy.annotate import Label
from deploy.gallery.threshold import ErrorRates, Point
from deploy.service.access import Tokens
from deploy.service.settings import AccessSettings, ServiceSettings

from .conftest import running, unit

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=NONE),
    pytest.mark.timeout(600),
    pytest.mark.slow,  # `make test-page` runs them
]
PHONE = {"width": 390, "height": 844}
PATIENCE = 90_000
"""Milliseconds: a browser on a busy machine is slow."""
SHIFT = """() => { window.shifted = 0; new PerformanceObserver((list) => {
    for (const each of list.getEntries()) if (!each.hadRecentInput) window.shifted += each.value;
}).observe({ type: "layout-shift", buffered: true }); }"""

SMALL = """() => [...document.querySelectorAll("nav a, main button")]
    .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 36)
    .map((each) => each.textContent)"""
"""What a thumb would miss."""


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=PATIENCE)
    with launched() as found:
        yield found


@pytest.fixture
def page(browser):
    """A window whose console must stay silent: an error, or something that the policy forbids, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    found = context.new_page()
    found.set_default_timeout(PATIENCE)
    said = []
    found.on("console", lambda message: message.type == "error" and said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    foreign = []
    found.on("request", lambda request: foreign.append(request.url) if "127.0.0.1" not in request.url else None)
    yield found
    context.close()
    assert [each for each in said if "Failed to load resource" not in each] == []
    assert [each for each in foreign if not each.startswith(("blob:", "data:"))] == []


def go(page, service, view):
    page.goto(f"{service.service.address}#/{view}")
    return page.locator("main")


def test_an_empty_site_says_what_to_do(page, service):
    playwright.expect(go(page, service, "live")).to_contain_text("pat serve")
    playwright.expect(go(page, service, "people")).to_contain_text("Nobody yet")
    playwright.expect(go(page, service, "review")).to_contain_text("Nothing to look at")
    playwright.expect(go(page, service, "system")).to_contain_text("was not measured")


def test_a_person_is_named_and_the_name_taken_back(page, service, people):
    main = go(page, service, "people")
    playwright.expect(main.locator(".person")).to_have_count(4)
    main.get_by_placeholder("Look for a name").fill("gate-1")
    playwright.expect(main.locator(".person")).to_have_count(1)
    main.locator(".person").click()
    playwright.expect(main).to_contain_text("Across cameras")
    main.get_by_role("button", name="Give a name").click()
    page.locator("dialog input").fill("<b>Bob</b>")  # a name is data, never markup
    page.keyboard.press("Enter")
    playwright.expect(main.locator("h1")).to_have_text("<b>Bob</b>")
    page.get_by_role("button", name="Undo").click()
    playwright.expect(main.locator("h1")).to_have_text("gate-1")


def test_two_people_are_made_one(page, service, people):
    main = go(page, service, f"people/{people['gate-1']['key']}")
    main.get_by_role("button", name="Merge with").click()
    page.locator("dialog .choice", has_text="gate-2").click()
    playwright.expect(main.locator("h1")).to_have_text("gate-2")
    playwright.expect(main).to_contain_text("2 sightings")


def test_vectors_are_split_off(page, service, people):
    service.met("gate-1", "hall", unit(30), track=40, score=0.95)
    main = go(page, service, f"people/{people['gate-1']['key']}")
    main.locator(".entries input").first.check()
    main.get_by_role("button", name="Split off").click()
    page.locator("dialog input").fill("somebody else")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#toasts")).to_contain_text("somebody else")
    assert service.get("/people", q="somebody else")["items"][0]["entries"] == 1


def test_forgetting_asks_and_gives_a_receipt(page, service, people):
    main = go(page, service, f"people/{people['gate-2']['key']}")
    main.get_by_role("button", name="Forget").click()
    page.locator("dialog").get_by_role("button", name="Cancel").click()
    assert service.get(f"/people/{people['gate-2']['key']}")
    main.get_by_role("button", name="Forget").click()
    page.locator("dialog").get_by_role("button", name="Forget").click()
    playwright.expect(page.locator("dialog")).to_contain_text("Deleted: 1 vectors")
    assert service.api("GET", f"/people/{people['gate-2']['key']}").status_code == 404
    page.locator("dialog").get_by_role("button", name="Done").click()
    playwright.expect(main.locator(".person")).to_have_count(3)


def test_a_question_is_answered_by_key_and_taken_back(page, service, people):
    main = go(page, service, "review")
    playwright.expect(page.locator("#open-reviews")).to_have_text("1")
    playwright.expect(main.locator(".question")).to_contain_text("anna")
    page.keyboard.press("s")
    playwright.expect(main).to_contain_text("Nothing to look at")
    assert service.get(f"/people/{people['hall-3']['key']}")["name"] == "anna"
    main.get_by_role("button", name="Take back").click()
    playwright.expect(main.locator(".question")).to_be_visible()
    assert service.get(f"/people/{people['hall-3']['key']}")["name"] == "hall-3"


def test_search_by_photo(page, service, colour_bundle):
    from deploy import runtime

    crop = np.random.default_rng(0).integers(0, 256, (256, 128, 3), dtype=np.uint8)
    with runtime.open(colour_bundle) as session:
        service.site.gallery.add(session.embed(crop[None]), identity="carla", camera="hall", time=time.time())
    out = io.BytesIO()
    Image.fromarray(crop).save(out, "PNG")
    main = go(page, service, "search")
    photo = {"name": "crop.png", "mimeType": "image/png", "buffer": out.getvalue()}
    page.locator("#photo").set_input_files(photo)
    playwright.expect(main).to_contain_text("Nobody was found")
    main.get_by_label("A crop of one person").check()
    playwright.expect(main.locator(".answer")).to_contain_text("Yes, was here before")
    main.locator(".match", has_text="carla").click()
    playwright.expect(main.locator("h1")).to_have_text("carla")
    go(page, service, "search")
    page.locator("#photo").set_input_files({**photo, "buffer": b"no image"})
    playwright.expect(main).to_contain_text("That did not work")


def test_live_cameras_and_a_click_on_a_person(page, browser, colour_bundle, street, tmp_path):
    from deploy.settings import CameraSettings, DetectSettings, GallerySettings, OutputSettings, ProcessSettings

    process = ProcessSettings(
        camera=CameraSettings(rate=2.0, loop=True, pace=True), detect=DetectSettings("hog:320"),
        gallery=GallerySettings(path=str(tmp_path / "gallery")), output=OutputSettings(events="", metrics_port=0),
    )  # fmt: skip
    sources = [f"north={street / 'camera-1.mp4'}"]
    with running(colour_bundle, tmp_path, sources=sources, process=process) as service:
        main = go(page, service, "live")
        image = main.locator(".frame img")
        playwright.expect(main.locator(".state")).to_have_text("live")
        playwright.expect(image).not_to_have_js_property("naturalWidth", 0)  # the policy forbids wait_for_function
        playwright.expect(image).not_to_have_attribute("src", image.get_attribute("src"))
        # Somebody stands in the image's middle, whatever the detector says of this very frame.
        seen = service.site.live.newest("north")
        height, width = seen.frame.pixels.shape[:2]
        box = np.array([0.3 * width, 0.1 * height, 0.6 * width, 0.9 * height], dtype=np.float32)
        whole = service.site.live.see
        service.site.live.see = lambda frame, labels: whole(frame, [Label(box, 99, None, None)])
        playwright.expect(main.locator(".chip", has_text="Track 99")).to_be_visible()
        size = image.bounding_box()
        image.click(position={"x": 0.45 * size["width"], "y": 0.5 * size["height"]})
        playwright.expect(page.locator("dialog")).to_contain_text("was not here before")
        page.keyboard.press("Escape")
        image.click(position={"x": 5, "y": 5})
        playwright.expect(page.locator("#toasts")).to_contain_text("nobody is at this place")


def test_what_happens_is_told_at_once(page, service, people):
    go(page, service, "live")
    playwright.expect(page.locator(".feed li").first).to_contain_text("hall-3")
    service.met("newcomer", "gate", unit(50), track=77, new=True)
    playwright.expect(page.locator(".feed li").first).to_contain_text("newcomer")


def test_the_threshold_is_changed_and_taken_back(page, service):
    main = go(page, service, "system")
    slider = main.get_by_label("Threshold")
    slider.focus()
    page.keyboard.press("ArrowRight")
    main.get_by_role("button", name="Use this").click()
    playwright.expect(page.locator("#toasts")).to_contain_text("0.801")
    assert service.get("/threshold")["threshold"] == pytest.approx(0.801)
    page.get_by_role("button", name="Undo").click()
    playwright.expect(main).to_contain_text("As configured")
    page.reload()
    playwright.expect(main).to_contain_text("set threshold")  # in the audit log


def test_what_the_threshold_costs_is_told_also_between_steps(page, colour_bundle, tmp_path):
    rates = ErrorRates([Point(0.570384, 0.001, None)], "rendered people")
    with running(colour_bundle, tmp_path, threshold=0.570384, error_rates=rates) as service:
        main = go(page, service, "system")
        playwright.expect(main).to_contain_text("0.10 % match by mistake")
        playwright.expect(main.get_by_role("button", name="Use this")).to_be_disabled()
        main.get_by_label("Threshold").focus()
        page.keyboard.press("ArrowRight")
        playwright.expect(main).to_contain_text("What this threshold costs was not measured")
        playwright.expect(main.get_by_role("button", name="Use this")).to_be_enabled()


def test_keys_lead_everywhere(page, service):
    main = go(page, service, "live")
    for key, title in (("2", "People"), ("3", "Search by photo"), ("4", "Review"), ("5", "System")):
        page.keyboard.press(key)
        playwright.expect(main.locator("h1")).to_have_text(title)
    page.keyboard.press("2")
    playwright.expect(main.locator("h1")).to_have_text("People")
    page.keyboard.press("/")
    playwright.expect(main.locator("input[type=search]")).to_be_focused()
    page.keyboard.press("Escape")
    page.locator("body").press("Tab")
    page.locator("h1").click()
    page.keyboard.press("?")
    playwright.expect(page.locator("dialog")).to_contain_text("Keyboard")


def test_dark_and_light(page, service):
    go(page, service, "people")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="dark and light").click()
    dark = page.evaluate(background)
    assert sum(map(int, re.findall(r"\d+", dark))) < 150 < sum(map(int, re.findall(r"\d+", light)))
    page.reload()
    assert page.evaluate(background) == dark


def test_a_phone_shows_everything(page, service, people):
    page.set_viewport_size(PHONE)
    for view in ("live", "people", f"people/{people['gate-1']['key']}", "search", "review", "system"):
        go(page, service, view)
        playwright.expect(page.locator("main .loading")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view
    small = page.evaluate(SMALL)
    assert small == []


def test_the_layout_does_not_shift(page, service, people):
    page.add_init_script(f"({SHIFT})()")
    for view in ("people", "review", "system"):
        page.goto("about:blank")
        go(page, service, view)
        playwright.expect(page.locator("main .loading")).to_have_count(0)
        page.wait_for_timeout(500)
        assert page.evaluate("window.shifted") < 0.1, view


def test_a_service_that_is_gone_is_said_to_be_gone(page, colour_bundle, tmp_path):
    with running(colour_bundle, tmp_path) as service:
        go(page, service, "people")
        playwright.expect(page.locator("#offline")).to_be_hidden()
    page.keyboard.press("5")
    playwright.expect(page.locator("#offline")).to_be_visible()
    playwright.expect(page.locator("main")).to_contain_text("does not answer")
    playwright.expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_signing_in_with_a_role(page, colour_bundle, tmp_path):
    chosen = ServiceSettings(access=AccessSettings(loopback="token"))
    with running(colour_bundle, tmp_path, service=chosen) as service:
        token = Tokens(service.site.store).add("desk", "view")
        service.met("anna", "gate", unit(1), track=1)
        main = go(page, service, "people")
        main.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        playwright.expect(main.locator(".said")).to_have_text("the token is wrong")
        main.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        main.locator(".person").click()
        playwright.expect(main.locator("h1")).to_have_text("anna")
        assert main.get_by_role("button", name="Forget").count() == 0
        assert token not in page.content()
        assert page.evaluate("document.cookie") == ""
        go(page, service, "system").get_by_role("button", name="Sign out").click()
        playwright.expect(main.get_by_label("Token")).to_be_visible()
