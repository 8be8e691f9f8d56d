"""The page in real Chromium: nothing hostile runs, nothing leaves, filters work, every width and theme is usable."""

# ruff: noqa: E501 (lines of JavaScript)
from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from chromium import SIZES, browser, requested, resize
from report_run import POISON, write_run

from tiltmeter import report

BENCHMARKS = ("crows-pairs", "dt-stereotyping")
HEADER = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report full of hostile text, with megabyte answers."""
    run = tmp_path_factory.mktemp("hostile")
    write_run(
        run,
        poison=POISON,
        answer_length=1_000_000,
        models=("owner/one", "owner/two"),
        strategies=("int4", "wanda"),
        benchmarks=BENCHMARKS,
    )
    return report.build_report(run)


@pytest.fixture
def opened(driver, page):
    driver.get_log("browser"), driver.get_log("performance")
    resize(driver, "wide")
    driver.get("about:blank")
    driver.get(page.as_uri())
    return driver


def open_flips(driver):
    driver.execute_script("document.getElementById('flips-open').click()")
    return driver.execute_script("return document.querySelectorAll('#flips-list > li').length")


def test_no_hostile_script_runs_no_request_leaves_and_the_console_is_clean(opened, page):
    open_flips(opened)
    opened.execute_script("for (const box of document.querySelectorAll('details')) box.open = true")
    assert opened.execute_script("return window.hacked") is None
    assert set(requested(opened)) <= {page.as_uri()} | {"about:blank"}
    assert opened.get_log("browser") == []


def test_hostile_answers_are_shown_as_text(opened):
    open_flips(opened)
    answer = opened.execute_script("return document.querySelector('.flip .answer').textContent")
    assert "<script>window.hacked=1</script>" in answer and "␛[31m" in answer and "⟨U+202E⟩" in answer
    assert opened.execute_script("return document.querySelectorAll('.flip img, .flip svg, .flip script').length") == 0


def test_its_own_policy_refuses_a_foreign_script_even_if_one_got_in(opened):
    opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 9'; document.body.append(s)"
    )
    assert opened.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in entry["message"] for entry in opened.get_log("browser"))


def test_it_works_under_a_servers_strict_policy_without_a_console_error(driver, page):
    class Strict(SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Content-Security-Policy", HEADER)
            super().end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Strict, directory=str(page.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver.get_log("browser"), requested(driver)
        address = f"http://127.0.0.1:{server.server_port}/{page.name}"
        driver.get(address)
        assert open_flips(driver) == 20
        server.shutdown()
    outside = [url for url in requested(driver) if url != address and not url.endswith("/favicon.ico")]
    assert outside == []
    assert [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]] == []


def test_filters_and_search_narrow_the_flips(opened):
    assert open_flips(opened) == 20  # a page of the 2 models x 2 strategies x 2 benchmarks x 6 examples
    state = """
      const form = document.querySelector('#browser form'), set = (name, value) => {
        form.elements[name].value = value; form.dispatchEvent(new Event('input', { bubbles: true }));
        return document.getElementById('flips-count').textContent; };
      const choose = (name, index) => set(name, form.elements[name].options[index].value);
      return [set('benchmark', ''), set('benchmark', 'crows-pairs'), choose('strategy', 1), choose('direction', 1),
              set('search', 'item-3'), set('search', 'nothing has this'),
              document.querySelectorAll('#flips-list > li').length];"""
    counts = opened.execute_script(state)
    assert [text.split()[0] for text in counts[:-1]] == ["48", "24", "12", "4", "2", "0"] and counts[-1] == 0


def test_the_picture_filter_hides_other_benchmarks(opened):
    shown = """
      const form = document.querySelector('.filters.pictures[data-for=changes]');
      form.elements.benchmark.value = arguments[0]; form.dispatchEvent(new Event('change', { bubbles: true }));
      return [...document.querySelectorAll('[data-figures=changes] .picture')].filter((f) => f.offsetHeight).map((f) => f.dataset.benchmark);"""
    assert set(opened.execute_script(shown, "crows-pairs")) == {"crows-pairs"}
    assert set(opened.execute_script(shown, "")) == set(BENCHMARKS)


def test_a_cell_leads_to_its_numbers_even_inside_closed_details(opened):
    target = opened.execute_script("""
      const link = document.querySelector('table.matrix td[class^=v-] a'); link.click();
      return link.getAttribute('href').slice(1);""")
    opened.implicitly_wait(1)
    assert (
        opened.execute_async_script(
            "const [id, done] = arguments; setTimeout(() => done(document.getElementById(id).getBoundingClientRect().height), 200)",
            target,
        )
        > 0
    )
    assert opened.execute_script("return document.activeElement.id") == target


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", list(SIZES))
def test_nothing_is_wider_than_the_screen_and_text_stands_out(opened, size, dark):
    resize(opened, size, dark=dark)
    open_flips(opened)
    assert opened.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    weak = opened.execute_script(CONTRAST)
    assert weak == []


def test_everything_that_acts_can_be_reached_and_seen_by_keyboard(opened):
    open_flips(opened)
    bad = opened.execute_script("""
      return [...document.querySelectorAll('a[href], button, select, input, summary')]
        .filter((e) => e.checkVisibility() && (e.tabIndex < 0 || !(e.textContent.trim() || e.getAttribute('aria-label') || e.querySelector('[aria-label]') || e.labels?.length)))
        .map((e) => e.outerHTML.slice(0, 90));""")
    assert bad == []


def test_landmarks_headings_and_tables_are_named_for_screen_readers(opened):
    found = opened.execute_script("""
      const order = [...document.querySelectorAll('h1,h2,h3,h4,h5')].filter((h) => h.checkVisibility()).map((h) => +h.tagName[1]);
      return {
        landmarks: ['header', 'nav', 'main', 'footer'].filter((name) => document.querySelector(name)),
        nameless: [...document.querySelectorAll('section')].filter((s) => !s.getAttribute('aria-labelledby')).length,
        jumps: order.slice(1).filter((level, i) => level > order[i] + 1).length, first: order[0],
        headless: [...document.querySelectorAll('table')].filter((t) => !t.querySelector('th[scope]')).length,
        silent: [...document.querySelectorAll('[role=region]')].filter((r) => !r.getAttribute('aria-label') && !r.getAttribute('aria-labelledby')).length,
        lang: document.documentElement.lang };""")
    assert found == {
        "landmarks": ["header", "nav", "main", "footer"],
        "nameless": 0,
        "jumps": 0,
        "first": 1,
        "headless": 0,
        "silent": 0,
        "lang": "en",
    }


@pytest.mark.parametrize("size", list(SIZES))
def test_every_picture_fits_its_card_at_every_width(opened, size):
    resize(opened, size)
    wide, drawn = opened.execute_script("""
      const shown = [...document.querySelectorAll('.picture')];
      return [shown.filter((p) => p.scrollWidth > p.clientWidth).map((p) => p.id),
              shown.filter((p) => p.id.startsWith('groups')).map((p) => [...p.querySelectorAll('svg')].filter((s) => s.checkVisibility()).length)];""")
    assert wide == [] and drawn and set(drawn) == {1}
    letters = opened.execute_script("""
      const svg = [...document.querySelectorAll('[id^=groups] svg')].filter((s) => s.checkVisibility());
      return Math.min(...svg.map((s) => s.getBoundingClientRect().width / s.viewBox.baseVal.width * parseFloat(s.querySelector('text').getAttribute('font-size'))));""")
    assert letters >= 9  # pixels


CLOSED = """
  const boxes = [...document.querySelectorAll('details:not(.not-printed)')].filter((d) => !d.open);
  return [boxes.length, boxes.filter((d) => !d.lastElementChild.checkVisibility()).length];"""


def test_paper_shows_what_closed_details_hold_and_says_where_the_examples_are(opened):
    closed, hidden = opened.execute_script(CLOSED)
    assert closed > 5 and hidden == closed
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert opened.execute_script(CLOSED) == [closed, 0]
        assert "results RUN --items" in opened.execute_script(
            "return document.querySelector('#flips .print-only').innerText"
        )
        assert not opened.execute_script("return document.querySelector('#flips-open').checkVisibility()")
        open_flips(opened)  # what is on the screen is printed, and then the sentence is not needed
        assert opened.execute_script("return document.querySelectorAll('.flip')[0].checkVisibility()")
        assert not opened.execute_script("return document.querySelector('#flips .print-only').checkVisibility()")
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_details_opened_for_the_printer_are_closed_again(opened):
    state = "return [...document.querySelectorAll('details')].map((d) => d.open)"
    before = opened.execute_script(state)
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert all(opened.execute_script(state)) and not all(before)
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script(state) == before


def test_it_prints_to_pdf_with_its_pictures(opened):
    import base64

    result = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(result["data"])
    assert pdf[:5] == b"%PDF-" and len(pdf) > 50_000


# WCAG 2 contrast of every visible text against the nearest opaque background; below 4.5 (3 for large text) is listed.
CONTRAST = """
const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a === 1) return c.rgb; }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255]; };
const weak = [];
for (const e of document.querySelectorAll('main *, header *, nav *, footer *')) {
  if (e.closest('svg') || !e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  const style = getComputedStyle(e), a = light(parse(style.color).rgb), b = light(ground(e));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), large = parseFloat(style.fontSize) >= 24;
  if (ratio < (large ? 3 : 4.5)) weak.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
}
return [...new Set(weak)].slice(0, 10);
"""
