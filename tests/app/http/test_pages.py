"""The web pages in Chromium."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from axe_playwright_python.sync_playwright import Axe
from mlflow.models import infer_signature
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from tests.app.browser import chromium, proxy, visiting
from tests.app.harness import COLUMNS, Running, running_service, serving, settings_for
from tests.app.kinds import KINDS, Kind
from tests.app.model.test_pyfunc import SUM, save_code
from tests.app.workers import pyfunc_settings, staged, worker

NASTY = '<img src=x onerror="document.title=1">'
KEY = "a-key-of-the-page-0123"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def here(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service with a binary model that has an integer column."""
    with running_service(saved.as_uri(), tmp_path_factory.mktemp("here"), MODEL_SERVICE_MODEL_NAME="biopsies") as it:
        yield it


@pytest.fixture(scope="module", params=["multiclass", "regression", "categorical", "optional", "targets"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Yield the name of a kind of model and the address of a service with it."""
    place = tmp_path_factory.mktemp("kind")
    KINDS[request.param].save(place / "model")
    with running_service((place / "model").as_uri(), place) as it:
        yield request.param, it.address


def predict(page: Page) -> None:
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_text("Margin", exact=True)).to_be_visible()


def amounts(page: Page, name: str) -> list[float]:
    return [
        float(value) for value in page.eval_on_selector_all(f"[data-{name}]", f"all => all.map(e => e.dataset.{name})")
    ]


def test_card_describes_the_model(browser: Browser, here: Running) -> None:
    with visiting(browser, here.address + "/") as page:
        expect(page.get_by_role("heading", name="biopsies")).to_be_visible()
        expect(page.get_by_text("Predicts diagnosis (malignant, benign) from 3 columns.")).to_be_visible()
        expect(page.locator("#badges")).to_contain_text("binary:logistic")
        expect(page.locator("#about")).to_contain_text("SHA-256")
        assert re.match("biopsies [0-9a-f]{12}", page.title())


def test_form_is_filled_with_the_example_and_predicts_with_bars_that_sum(browser: Browser, here: Running) -> None:
    with visiting(browser, here.address + "/") as page:
        assert all(page.get_by_label(name).input_value() for name in COLUMNS)
        predict(page)
        assert page.locator(".prediction").inner_text() in ("malignant", "benign")
        [base], [margin], added = amounts(page, "base"), amounts(page, "margin"), amounts(page, "amount")
        assert len(added) == len(COLUMNS)
        assert base + sum(added) == pytest.approx(margin, abs=1e-5)
        widths = page.eval_on_selector_all(".both .part", "all => all.map(e => e.getBoundingClientRect().width)")
        assert widths == sorted(widths, reverse=True)
        page.get_by_text("The same request with curl").click()
        expect(page.locator("#curl")).to_contain_text("/predict")


def test_each_kind_of_model_is_predicted(browser: Browser, kind: tuple[str, str]) -> None:
    name, address = kind
    with visiting(browser, address + "/") as page:
        predict(page)
        [base], [margin], added = amounts(page, "base"), amounts(page, "margin"), amounts(page, "amount")
        assert base + sum(added) == pytest.approx(margin, abs=1e-5)
        if name == "multiclass":
            choice = page.get_by_label("Contributions to")
            assert choice.locator("option:checked").inner_text() == page.locator(".prediction").inner_text()
            choice.select_option("bad")
            assert amounts(page, "margin") != [margin]
        elif name == "categorical":
            assert page.get_by_label("colour").locator("option").all_inner_texts() == [
                "grün",
                "red",
                "sky blue",
                "missing",
            ]
            page.get_by_label("colour").select_option("sky blue")
            page.get_by_label("floor").select_option("7")
            page.get_by_label("size").fill("")
            predict(page)
            expect(page.locator(".bars")).to_contain_text("sky blue")
            expect(page.locator(".bars")).to_contain_text("missing")
        elif name == "optional":
            page.get_by_label("member").select_option("false")
            page.get_by_label("visits").fill("")
            predict(page)
        elif name == "targets":
            assert page.get_by_label("Contributions to").locator("option").count() == 2
        assert page.locator(".problem:visible").count() == 0


def test_invalid_cell_is_explained_next_to_its_field(browser: Browser, here: Running) -> None:
    with visiting(browser, here.address + "/") as page:
        page.get_by_label("texture").fill("abc")
        page.get_by_label("count").fill("1.5")
        page.get_by_role("button", name="Predict").click()
        field = page.get_by_label("texture")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description("must be a number, not a string.")
        expect(page.get_by_label("count")).to_have_accessible_description("must be a whole number.")
        expect(page.locator("#problem")).to_have_text("The input has 2 problems.")
        expect(field).to_be_focused()
        field.fill("0.3")
        page.get_by_label("count").fill("")
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_label("count")).to_have_accessible_description(
            "must not be null: the type long has no missing values."
        )
        expect(field).not_to_have_attribute("aria-invalid", "true")


def test_page_works_with_the_keyboard_alone(browser: Browser, here: Running) -> None:
    with visiting(browser, here.address + "/") as page:
        expect(page.get_by_label("texture")).to_be_visible()
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.get_by_label("texture").evaluate("e => e === document.activeElement"):
                break
        page.keyboard.press("Control+A")
        page.keyboard.type("0.75")
        page.keyboard.press("Enter")
        expect(page.locator(".bars")).to_contain_text("0.75")
        assert page.get_by_role("button", name="Predict").evaluate("e => e.tabIndex") == 0


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_and_is_accessible(browser: Browser, here: Running, width: int, colours: Any) -> None:
    size: Any = {"width": width, "height": 844}
    with visiting(browser, here.address + "/", viewport=size, color_scheme=colours) as page:
        predict(page)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (colours == "dark")


@pytest.mark.parametrize(("path", "told"), [("/", False), ("/", True), ("", True)])
def test_pages_work_behind_a_stripped_prefix(browser: Browser, here: Running, path: str, told: bool) -> None:
    with proxy(here.address, "/models/biopsies", announced=told) as address, visiting(browser, address + path) as page:
        predict(page)
        page.get_by_role("link", name="API", exact=True).click()
        expect(page.locator(".servers option")).to_have_text(address + "/")
        send_example(page)


def test_invalid_prefix_is_ignored(client: TestClient) -> None:
    for told in ('/"><script>', "//elsewhere.example", "https://elsewhere.example", "/a b"):
        assert "<base" not in client.get("/", headers={"X-Forwarded-Prefix": told}).text
    assert '<base href="/a/b/">' in client.get("/", headers={"X-Forwarded-Prefix": "/a/b/"}).text


def send_example(page: Page) -> None:
    page.locator("#operations-Predict-predict .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator("#operations-Predict-predict .live-responses-table")).to_contain_text("probabilities")


def test_docs_send_the_example_and_contact_no_other_host(browser: Browser, here: Running) -> None:
    with visiting(browser, here.address + "/docs") as page:
        expect(page.get_by_role("heading", name="biopsies")).to_be_visible()
        send_example(page)


def test_key_is_entered_once_for_both_pages(browser: Browser, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "person").write_text(KEY)
    changes = {"MODEL_SERVICE_API_KEYS_DIR": str(tmp_path / "keys")}
    with (
        running_service(saved.as_uri(), tmp_path, **changes) as it,
        visiting(browser, it.address + "/") as page,
    ):
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(field).to_have_accessible_description("This key or token is not valid.")
        field.fill(KEY)
        page.keyboard.press("Enter")
        expect(field).to_be_hidden()
        predict(page)
        expect(page.locator("#curl")).to_contain_text("Bearer $KEY")
        page.get_by_role("link", name="API", exact=True).click()
        send_example(page)
        (tmp_path / "keys" / "person").write_text(KEY[::-1])
        page.wait_for_timeout(1200)
        page.goto(it.address + "/docs")
        expect(page.get_by_label("API key")).to_be_visible()


def test_hostile_names_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    def train(frame: pd.DataFrame) -> xgb.Booster:
        matrix = xgb.DMatrix(frame.to_numpy(), label=frame.iloc[:, 0].to_numpy() > 0.5)
        return xgb.train({"objective": "binary:logistic", "nthread": 1}, matrix, 3)

    frame = KINDS["binary"].frame.set_axis([NASTY, "__proto__", "'; alert(1) //"], axis=1)
    contract = {"task": "binary", "target": NASTY, "classes": [NASTY, "</script><script>document.title=1</script>"]}
    Kind(frame, train, lambda *_: None, contract).save(tmp_path / "model")
    with running_service((tmp_path / "model").as_uri(), tmp_path, MODEL_SERVICE_MODEL_NAME=NASTY) as it:
        with visiting(browser, it.address + "/") as page:
            expect(page.get_by_role("heading", name=NASTY)).to_be_visible()
            predict(page)
            assert len(amounts(page, "amount")) == 3
            assert page.locator("main img, main script").count() == 0
            assert page.title().startswith(NASTY)
        with visiting(browser, it.address + "/docs") as page:
            expect(page.get_by_role("heading", name=NASTY)).to_be_visible()
            assert page.locator("main img[src=x], main script").count() == 0


def test_pyfunc_model_has_no_explanation_and_takes_lists_as_json(browser: Browser, tmp_path: Path) -> None:
    example = {"image": np.ones((2, 2, 2)), "scale": np.array([1, 2])}
    folder = save_code(tmp_path / "model", SUM, signature=infer_signature(example, np.array([4.0, 8.0])))
    (folder / "input_example.json").write_text(json.dumps({name: it.tolist() for name, it in example.items()}))
    settings = pyfunc_settings(folder.as_uri(), tmp_path)
    staged(settings)
    variables = {
        "MODEL_SERVICE_MODEL_FLAVOR": "pyfunc",
        "MODEL_SERVICE_WORKER_SOCKET": str(settings.worker_socket),
        "MODEL_SERVICE_CACHE_DIR": str(settings.cache_dir),
    }
    with (
        worker(settings),
        running_service(folder.as_uri(), tmp_path, **variables) as it,
        visiting(browser, it.address + "/") as page,
    ):
        expect(page.get_by_label("image")).to_have_value("[[1,1],[1,1]]")
        page.get_by_label("image").fill("[[1, 2], [3, 4]]")
        page.get_by_label("scale").fill("10")
        page.get_by_role("button", name="Predict").click()
        expect(page.locator(".prediction")).to_have_text("100")
        expect(page.locator("#why")).to_contain_text("No explanation: Models of the flavor pyfunc")
        page.get_by_label("image").fill("[[1, 2]]")
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_label("image")).to_have_accessible_description(re.compile(r"must have the shape \[2, 2\]"))
        page.get_by_label("image").fill("[[1, 2")
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_label("image")).to_have_accessible_description(re.compile("must be a list"))


def test_page_waits_until_the_model_is_loaded(browser: Browser, here: Running) -> None:
    detail = "No model is loaded yet; GET /health returns the reasons."
    body = json.dumps({"status": 503, "detail": detail})

    def not_yet(page: Page) -> None:
        page.route("**/model", lambda it: it.fulfill(status=503, headers={"Retry-After": "1"}, body=body), times=1)

    with visiting(browser, here.address + "/", prepare=not_yet) as page:
        expect(page.get_by_text(detail)).to_be_visible()
        expect(page.get_by_role("button", name="Predict")).to_be_visible()
        expect(page.get_by_text(detail)).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/docs", "/pages/page.js", "/pages/swagger-ui-bundle.js"])
def test_pages_have_security_headers_and_can_be_cached(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    if etag := answer.headers.get("etag"):
        assert client.get(path, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("path", ["/pages/index.html", "/pages/redoc.standalone.js", "/pages/x", "/pages/..%2fauth.py"])
def test_other_files_are_not_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_disabled_pages_return_404(saved: Path, tmp_path: Path) -> None:
    with serving(settings_for(saved.as_uri(), tmp_path, pages_enabled=False)) as client:
        found = {path: client.get(path).status_code for path in ("/", "/docs", "/pages/page.js", "/openapi.json")}

    assert found == {"/": 404, "/docs": 404, "/pages/page.js": 404, "/openapi.json": 200}
