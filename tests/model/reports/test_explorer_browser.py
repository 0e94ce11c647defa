"""The explorer in a real browser: Chromium, driven by playwright; skipped where there is none, and it is said."""

import json
import shutil
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from explored import HOSTILE, TYPES, encoded, facts_of, pairs_of, write_grouped, write_pairs
from pairscape.model.reports.explorer.opening import open_explorer
from pairscape.model.reports.explorer.saved_page import saved_page
from pairscape.model.reports.explorer.server import serving
from pairscape.model.reports.findings import write_findings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the explorer in")

GENES = [*HOSTILE, *(f"GENE{i}" for i in range(12))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browsed")


@pytest.fixture(scope="module")
def codes(folder):
    return encoded(folder, GENES)


@pytest.fixture(scope="module")
def explorer(folder, codes):
    path = write_pairs(folder / "scores.parquet", pairs_of(GENES), **facts_of(folder, codes))
    return open_explorer(path, None, None, lambda *_: None)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(explorer):
    with serving(explorer, port=0) as at:
        yield at


@pytest.fixture
def page(browser):
    """A page on which nothing may go wrong, and that may load nothing from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    one, wrong = context.new_page(), []
    one.set_default_timeout(8000)
    one.on("pageerror", lambda error: wrong.append(error.stack))
    one.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and "Failed to load" not in said.text else None,
    )
    one.on(
        "request",
        lambda asked: wrong.append(asked.url) if urlsplit(asked.url).hostname not in (None, "127.0.0.1") else None,
    )
    yield one
    context.close()
    assert wrong == []


def until(page, told):
    """Wait for an expression to become true; asked from outside, as the page's policy forbids to evaluate text."""
    end = time.monotonic() + 10
    while not page.evaluate(told):
        assert time.monotonic() < end, told
        page.wait_for_timeout(20)


def state_of(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def rows(page):
    return page.locator("#pairs tbody tr")


def search(page, text):
    page.fill("#search", text)
    page.keyboard.press("Enter")


def ready(page):
    page.wait_for_selector("#pictures svg")
    until(page, "!document.querySelector('[aria-busy=true]')")


def test_search_filter_open_walk_and_share(page, address, explorer):
    page.goto(address)
    ready(page)
    page.keyboard.press("/")
    page.keyboard.type("gene1")
    assert page.locator("#found li").all_inner_texts()[0].startswith("GENE1")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('heading').textContent.includes('Partners of GENE1')")
    until(page, "document.querySelectorAll('#pairs tbody tr').length === 22")
    page.fill("[data-name=min_score]", "0.3")
    page.keyboard.press("Tab")
    page.click("[data-name=kind-rising]")
    number = explorer.table.number_of("GENE1")
    expected = json.loads(
        explorer.answer("/pairs", {"gene": str(number), "min_score": "0.3", "kind": "rising"}).content
    )
    assert 0 < expected["total"] < 22
    until(page, f"document.querySelectorAll('#pairs tbody tr').length === {expected['total']}")
    page.click("#narrowed button")
    until(page, "document.querySelectorAll('#pairs tbody tr').length === 22")
    rows(page).nth(3).click()
    ready(page)
    chosen = state_of(page)
    assert chosen["gene"] == chosen["a"] == "GENE1"
    link = page.url
    page.locator("#network .node").last.click()
    until(page, "!document.getElementById('heading').textContent.includes('GENE1 ')")
    assert state_of(page)["gene"] != "GENE1"
    page.go_back()
    until(page, "document.getElementById('heading').textContent.startsWith('Partners of GENE1')")
    other = page.context.new_page()  # a second tab, with the link
    other.goto(link)
    ready(other)
    assert other.locator("#title").inner_text() == f"GENE1 × {chosen['b']}"
    assert other.locator("#pairs tbody tr.open").count() == 1


def test_the_list_is_walked_by_keys_and_sorted(page, address):
    page.goto(address + "?gene=GENE2")
    ready(page)
    rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    until(
        page,
        "[...document.querySelectorAll('#pairs tbody tr')].findIndex((row) => row.classList.contains('open')) === 2",
    )
    page.get_by_role("button", name="q-value").click()
    until(page, "new URLSearchParams(location.search).get('sort') === 'q_value'")
    until(page, "document.querySelector('th[aria-sort=ascending]')")
    values = page.evaluate(
        "[...document.querySelectorAll('#pairs tbody tr')].map((row) => row.lastElementChild.previousElementSibling)"
    )
    assert len(values) == 22


SAVED = [
    ("#saves", "CSV", b"gene_a,"), ("#saves", "GMT", b"GENE3_partners\t"), ("#network-saves", "CSV", b"gene_a,"),
    ("#picture-saves", "SVG", b"<?xml"), ("#picture-saves", "PNG", b"\x89PNG"), ("#network-saves", "SVG", b"<?xml"),
    ("#network-saves", "PNG", b"\x89PNG"),
]  # fmt: skip


def test_files_are_saved(page, address, tmp_path):
    page.goto(address + "?gene=GENE3")
    ready(page)
    for where, word, begins in SAVED:
        with page.expect_download() as saving:
            page.locator(where).get_by_role("button", name=word, exact=True).click()
        saving.value.save_as(tmp_path / "saved")
        content = (tmp_path / "saved").read_bytes()
        assert content.startswith(begins), (where, word)
        assert len(content) > 200
    page.locator("#saves").get_by_role("button", name="GraphML").click()
    until(page, "document.getElementById('message').textContent.includes('control character')")  # a tab in a name
    page.fill("[data-name=min_score]", "0.9")
    page.keyboard.press("Tab")
    with page.expect_download() as saving:
        page.locator("#saves").get_by_role("button", name="GraphML").click()
    assert saving.value.suggested_filename == "GENE3-pairs.graphml"


def test_wrong_genes_empty_lists_and_old_links_are_told(page, address):
    page.goto(address)
    ready(page)
    page.fill("#search", "NOSUCHGENE")
    assert "No gene of this file" in page.inner_text("#message")
    page.goto(address + "?gene=GENE4&q=1&min_score=1")
    until(page, "document.getElementById('message').textContent.includes('No pair of GENE4')")
    assert rows(page).count() == 0
    page.goto(address + "?gene=LOST1&group=LOST2")
    until(page, "document.getElementById('message').textContent.includes('LOST1, LOST2')")
    page.goto(address + "?min_score=five")
    until(page, "document.getElementById('message').textContent.includes('number from 0 to 1')")


def test_a_name_of_another_is_never_run(page, address):
    page.goto(address)
    ready(page)
    for name in HOSTILE:
        search(page, name)
        until(page, f"state.gene === ids.get({json.dumps(name)})")
        until(page, "document.getElementById('heading').textContent.startsWith('Partners of')")
        until(page, "document.querySelectorAll('#pairs tbody tr').length > 20")
    ready(page)
    assert "owned" not in page.title().split(" · ")[-2:]
    assert (
        page.evaluate("document.querySelectorAll('#pairs img, #pairs script, #title img, #network script').length") == 0
    )
    reached = page.url
    page.goto(reached)
    ready(page)
    assert page.evaluate("document.title") != "owned"


def test_groups_are_small_multiples(page, folder, codes):
    found = open_explorer(
        write_grouped(folder / "groups.parquet", GENES[-12:], **facts_of(folder, codes)), None, None, print
    )
    with serving(found, port=0) as at:
        page.goto(at)
        ready(page)
        assert page.locator("#pictures .panels svg").count() == 4
        page.select_option("[data-name=group]", TYPES[2])
        until(page, "new URLSearchParams(location.search).get('group') === 'monocytes'")
        ready(page)
        page.get_by_role("button", name="Against independence").click()
        until(page, "new URLSearchParams(location.search).get('view') === 'residual'")
        assert page.locator("#pictures .panels svg").count() == 4


def test_a_file_that_is_gone_is_told(page, folder, codes, tmp_path):
    path = write_pairs(tmp_path / "s.parquet", pairs_of(GENES[-12:]), **facts_of(folder, codes))
    found = open_explorer(path, None, None, print)
    with serving(found, port=0) as at:
        page.goto(at)
        ready(page)
        path.unlink()
        rows(page).nth(4).click()
        until(page, "document.getElementById('facts').textContent.includes('cannot be read any more')")
    rows(page).nth(5).click()
    until(page, "document.getElementById('facts').textContent.includes('does not answer')")


def test_the_saved_page_searches_sorts_and_draws(page, explorer, tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(saved_page(explorer, 60))
    page.goto(path.as_uri())
    ready(page)
    assert rows(page).count() == 60
    page.get_by_role("button", name="Correlation").click()
    until(page, "location.hash.includes('sort=correlation')")
    text = page.evaluate(
        "[...document.querySelectorAll('#pairs tbody tr')].map((row) => row.querySelector('.figure').textContent)"
    )
    values = [float(value.replace("−", "-")) for value in text]
    assert values == sorted(values, reverse=True)
    label = page.locator("#pairs tbody th bdi").first.inner_text()
    search(page, label)
    until(page, "document.getElementById('heading').textContent.startsWith('Partners of')")
    ready(page)
    drawn = page.evaluate("source.picture(state.a, state.b).then((p) => [...p.counts[0]])")
    names = page.evaluate("[config.ids[state.a], config.ids[state.b]]")
    assert drawn == explorer.pictures.draw(*names).counts[0].ravel().tolist()
    with page.expect_download() as saving:
        page.locator("#saves").get_by_role("button", name="CSV").click()
    saving.value.save_as(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().startswith("gene_a,gene_b,score,")


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address + "?gene=GENE5")
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 25, 31)")
    page.close()


def test_the_report_of_the_scores_is_not_wider_than_a_telephone(browser, folder, codes):
    path = write_pairs(folder / "reported.parquet", pairs_of(GENES), **facts_of(folder, codes))
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(write_findings(path, codes).absolute().as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.close()


def test_residuals_of_groups_together_are_within_each(page, folder, codes):
    found = open_explorer(
        write_grouped(folder / "r.parquet", GENES[-12:], **facts_of(folder, codes)), None, None, print
    )
    with serving(found, port=0) as at:
        page.goto(at)
        ready(page)
        names = page.evaluate("[config.ids[state.a], config.ids[state.b]]")
        drawn = page.evaluate("residuals(shown.picture.counts[0], expectedOf(shown.picture, 0, 16))")
    counts = found.pictures.draw(*names).counts.astype(float)
    expected = sum(own.sum(1, keepdims=True) * own.sum(0, keepdims=True) / own.sum() for own in counts[1:])
    assert drawn == pytest.approx(((counts[0] - expected) / (expected + 0.25) ** 0.5).ravel().tolist())
