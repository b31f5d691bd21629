"""Open a page of Bokeh in Chromium, and print what it shows: look_at_dashboard.py CHROMIUM URL ARGUMENT…

Prints JSON: `plots` (canvases on which something is drawn), `figures` (Bokeh's figures), `errors`, and `foreign`
(addresses beyond this machine that the page asked for).
"""

import json
import sys
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

# Bokeh draws into canvases of nested shadow roots.
PLOTS = """() => {
  const find = root => [...root.querySelectorAll("*")].flatMap(
    e => [...(e.matches("canvas") ? [e] : []), ...(e.shadowRoot ? find(e.shadowRoot) : [])]);
  const isDrawn = canvas => canvas.width > 0 && canvas.height > 0 && canvas.getContext("2d")
    .getImageData(0, 0, canvas.width, canvas.height).data.some(value => value !== 0);
  return find(document).filter(isDrawn).length;
}"""
FIGURES = """() => Bokeh.documents.flatMap(d => [...d._all_models.values()])
  .filter(model => model.type === "Figure").length"""


def main(chromium: str, url: str, *arguments: str) -> None:
    errors: list[str] = []
    foreign: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(arguments))
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                urlsplit(request.url).hostname in ("127.0.0.1", None) or foreign.append(request.url)
            ),
        )
        page.goto(url)
        page.wait_for_function(
            "window.Bokeh && Bokeh.documents.length && Bokeh.documents.every(d => d.is_idle)",
            timeout=120_000,
        )
        page.wait_for_function(f"({PLOTS})() > 0", timeout=120_000)
        print(
            json.dumps(
                {
                    "plots": page.evaluate(PLOTS),
                    "figures": page.evaluate(FIGURES),
                    "errors": errors,
                    "foreign": foreign,
                }
            )
        )
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
