"""Looks at a page of report_html() as a browser shows it: headless Chromium, which is told of no network.

    report_page.py PAGE.html FACTS.json FOLDER

FACTS is what the database knows, for the page to be compared with: numbers of lanes, of runs by outcome, texts that must
stand in the page as they are. Screenshots and the printed page go to FOLDER. Prints TAP lines.
"""

import base64
import json
import os
import pathlib
import sys
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from checks import ok, same

WIDTHS = {"wide": 1280, "phone": 390, "narrow": 360}
THEMES = ("light", "dark")


def browser(profile):
    options = Options()
    options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for flag in (
        "headless", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars",
        f"user-data-dir={profile}", "host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(
        options=options, service=Service(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")))


class Page:
    """The page in the browser."""

    def __init__(self, driver, path):
        self.driver = driver
        self.url = pathlib.Path(path).resolve().as_uri()

    def show(self, width, theme="light", media=""):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800})
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"media": media, "features": [{"name": "prefers-color-scheme", "value": theme}]})
        self.driver.get(self.url)

    def js(self, script, *arguments):
        return self.driver.execute_script(f"return {script.strip()}", *arguments)

    def count(self, selector):
        return self.js("document.querySelectorAll(arguments[0]).length", selector)

    def requests(self):
        """Addresses that the page has asked for since the last call, but for its own."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent" and message["params"]["documentURL"] == self.url:
                asked.append(message["params"]["request"]["url"])
        return [url for url in asked if url != self.url and not url.startswith("data:")]

    def screenshot(self, path):
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12000), "scale": 1}})
        pathlib.Path(path).write_bytes(base64.b64decode(picture["data"]))


# ---- colours --------------------------------------------------------------------

# The colours of elements' texts and of the first ground behind each that is not transparent, as [r, g, b]; each pair once,
# with what it was found on.
COLOURS = """
(function (elements) {
  const parse = c => c.match(/[0-9.]+/g).map(Number);
  const found = new Map();
  for (const element of elements) {
    let ground = null;
    for (let e = element; e !== null && ground === null; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) ground = colour.slice(0, 3);
    }
    const pair = [parse(getComputedStyle(element).color).slice(0, 3), ground];
    found.set(JSON.stringify(pair), [pair, element.outerHTML.slice(0, 80)]);
  }
  return [...found.values()];
})
"""


def luminance(colour):
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    """As WCAG 2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colours_of(page, selector):
    """Of the text and of the ground of the first such element."""
    return page.js(COLOURS.strip() + "([document.querySelector(arguments[0])])", selector)[0][0]


def text_contrasts(page):
    """Contrasts of all elements that have text of their own, with where they were found."""
    found = page.js(COLOURS.strip() + """([...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') && e.checkVisibility() &&
        [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim() !== '')))""")
    return [(contrast(*pair), where) for pair, where in found]


def bar_contrasts(page):
    """Contrast of the legend's bars with the sheet."""
    sheet = colours_of(page, "section")[1]
    found = []
    for css_class, part in (("c", "fill"), ("u", "fill"), ("f", "fill"), ("r", "stroke"), ("s", "stroke")):
        colour = page.js(
            "getComputedStyle(document.querySelector('.legend .' + arguments[0]))[arguments[1]].match(/[0-9.]+/g).map(Number)",
            css_class, part)
        found.append((contrast(colour[:3], sheet), css_class))
    return found


# ---- checks ---------------------------------------------------------------------

def check_layout(page, folder):
    grounds = {}
    for name, width in WIDTHS.items():
        for theme in THEMES:
            page.show(width, theme)
            what = f"{name}, {theme}"
            same(page.js("document.documentElement.scrollWidth"), width, f"{what}: nothing is wider than the page")
            outside = page.js("""
              [...document.querySelectorAll('section, table, td, p, h1, h2, h3, figure, svg, li, dl, code')]
                .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 0.5)
                .slice(0, 5).map(e => e.outerHTML.slice(0, 80))""")
            same(outside, [], f"{what}: nothing sticks out")
            body = colours_of(page, "body")
            grounds.setdefault(theme, body)
            ok(contrast(*body) >= 4.5, f"{what}: text stands out from its ground", contrast(*body))
            if name == "wide":
                found = text_contrasts(page)
                same([c for c in found if c[0] < 4.5], [], f"{what}: so does every other text")
                ok(len(found) >= 4, f"{what}: of several colours", found)
                if page.count(".legend"):
                    low = [c for c in bar_contrasts(page) if c[0] < 3]
                    same(low, [], f"{what}: and every bar")
            page.screenshot(f"{folder}/{name}_{theme}.png")
    ok(grounds["light"] != grounds["dark"], "light and dark differ", grounds)
    ok(luminance(grounds["light"][1]) > 0.5 > luminance(grounds["dark"][1]), "and are what they say", grounds)


def check_quiet(page):
    page.driver.get_log("browser")
    page.requests()
    page.show(1280)
    same([e["message"] for e in page.driver.get_log("browser")], [], "the console is silent")
    same(page.requests(), [], "nothing is asked of the network")
    same(page.js("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).map(e => e.name)"), [],
         "nothing else is loaded")
    same(page.count("script, iframe, object, embed, base, link:not([rel=icon]), img, form"), 0, "there is no script, frame or image")
    handlers = page.js("[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length")
    same(handlers, 0, "nor any attribute that runs something")
    # What the policy forbids is refused indeed.
    refused = page.js("""
      (function () {
        const seen = [];
        document.addEventListener('securitypolicyviolation', e => seen.push(e.effectiveDirective));
        const image = document.createElement('img');
        image.src = 'http://127.0.0.1:9/x.png';
        document.body.append(image);
        window.seen = seen;
        return true;
      })()""")
    deadline = time.monotonic() + 20
    while refused and not page.js("window.seen.length") and time.monotonic() < deadline:
        time.sleep(0.02)
    same(page.js("window.seen"), ["img-src"], "the policy refuses what comes from elsewhere")


def check_structure(page):
    page.show(1280)
    same(page.js("document.documentElement.lang"), "en", "the language is told")
    same(page.js("document.compatMode"), "CSS1Compat", "standards mode")
    same(page.js("document.characterSet"), "UTF-8", "the encoding is told")
    ok(page.js("/^[\\x00-\\x7f]*$/.test(document.title)") and page.js("document.title") != "", "there is a title")
    same(page.count("h1"), 1, "one heading of the first level")
    levels = page.js("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    ok(all(b - a <= 1 for a, b in zip(levels, levels[1:])), "no level of heading is left out", levels)
    same(page.js("[...document.querySelectorAll('main > section')].map(s => s.id)"),
         ["now", "alerts", "timeline", "figures", "reaped", "history", "health", "limits", "settings"], "the sections, in order")
    same(page.js("[...document.querySelectorAll('svg')].filter(s => !s.closest('[aria-hidden=true]') && "
                 "(s.getAttribute('role') !== 'img' || s.firstElementChild.tagName !== 'title'))"
                 ".map(s => s.outerHTML.slice(0, 80))"), [], "every picture has a role and a title")
    same(page.js("[...document.querySelectorAll('[id]')].length - new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"),
         0, "no id stands twice")
    same(page.js("[...document.querySelectorAll('a[href^=\"#\"],use')].map(e => e.getAttribute('href'))"
                 ".filter(h => document.getElementById(h.slice(1)) === null)"), [], "every reference leads somewhere")
    same(page.js("[...document.querySelectorAll('td')].filter(t => !t.dataset.label).length"), 0, "every cell tells its column")


# Per outcome, how many runs the bars of the timeline stand for.
RUNS_OF_BARS = """
(function () {
  const found = {bars: 0, runs: 0, reaped: 0, marks: 0};
  for (const bar of document.querySelectorAll('.timeline rect')) {
    found.bars += 1;
    found.runs += +(bar.dataset.runs || 1);
    found.reaped += +(bar.dataset.reaped || 0);
    if (bar.querySelector('title') === null) throw 'a bar without a title';
  }
  found.marks = document.querySelectorAll('.timeline use.m').length;
  return found;
})()
"""


def check_facts(page, facts):
    page.show(1280)
    drawn = page.js(RUNS_OF_BARS)
    if "lanes" in facts:
        same(page.count(".timeline .lane:not(.axis)"), facts["lanes"], "a lane per scope")
    if "runs" in facts:
        same(drawn["runs"], facts["runs"], "the bars stand for every run")
    if "reaped" in facts:
        same(drawn["reaped"], facts["reaped"], "and for every reaped one")
        same(drawn["marks"], page.count(".timeline rect[data-reaped]"), "every bar with a reaped run is marked")
    for css_class, number in facts.get("bars", {}).items():
        same(page.count(f".timeline rect.{css_class}"), number, f"bars of class {css_class}")
    for selector, number in facts.get("counts", {}).items():
        same(page.count(selector), number, f"number of {selector}")
    for selector, text in facts.get("texts", {}).items():
        same(page.js("(document.querySelector(arguments[0]) || {}).innerText", selector), text, f"text of {selector}")
    whole = page.js("document.documentElement.textContent")
    for text in facts.get("stands", []):
        ok(text in whole, f"the page says {text!r}")
    for text in facts.get("stands_not", []):
        ok(text not in whole, f"the page does not say {text!r}")
    # Every bar lies in its lane, and has some width.
    outside = page.js("""
      [...document.querySelectorAll('.timeline rect')].filter(r => {
        const box = r.getBoundingClientRect(), lane = r.closest('svg').getBoundingClientRect();
        return box.width < 1 || box.left < lane.left - 1 || box.right > lane.right + 1 || box.bottom > lane.bottom + 1;
      }).length""")
    same(outside, 0, "every bar can be seen, in its lane")


def check_print(page, folder):
    page.show(1280, "dark", "print")
    same(page.js("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)", "on paper it is light, whatever the theme")
    closed = page.js("[...document.querySelectorAll('details')].filter(d => d.getBoundingClientRect().height < 60).length")
    same(closed, 0, "what is folded on the screen is printed")
    page.show(1280)
    pdf = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False, "preferCSSPageSize": True})
    printed = base64.b64decode(pdf["data"])
    pathlib.Path(f"{folder}/printed.pdf").write_bytes(printed)
    ok(printed.startswith(b"%PDF-") and printed.rstrip().endswith(b"%%EOF"), "it can be printed", printed[:20])


def main():
    path, facts, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            page = Page(driver, path)
            known = json.loads(pathlib.Path(facts).read_text(encoding="utf-8"))
            check_quiet(page)
            check_structure(page)
            check_facts(page, known)
            check_layout(page, folder)
            check_print(page, folder)
        finally:
            driver.quit()


main()
