"""The e-mails of all templates as a browser shows them: on a phone, and where it is dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import Chromium
from tests.test_email_templates import EVERY, GIVEN, fill

pytestmark = pytest.mark.browser

LONG = "x" * 300
# What does not break by itself, in every place where it may stand.
UNBROKEN = {
    "product": LONG, "name": LONG, "title": LONG, "body": LONG, "action_label": "x" * 60,
    "summary": LONG, "error": LONG, "job_id": LONG, "job_type": LONG,
    **dict.fromkeys(
        ("reset_url", "action_url", "result_url", "job_url"), f"https://shop.example/{LONG}"
    ),
}  # fmt: skip
# The least contrast of any text with what is behind it (WCAG 2.2, 1.4.3), and whose it is.
LEAST_CONTRAST = """
(() => {
  const channels = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => {
    const [r, g, b] = channels(color).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  let least = [99, ''];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < least[0]) least = [ratio, texts.currentNode.data.trim()];
  }
  return least;
})()
"""


def show(browser: Chromium, html: str, file: Path, *, width: int, scheme: str) -> None:
    file.write_text(html, encoding="utf-8")
    browser.wear(scheme, width, height=800)
    browser.open(file.as_uri())


@pytest.mark.parametrize(("name", "locale"), EVERY)
def test_nothing_reaches_beyond_the_edge_of_a_phone(
    browser: Chromium, name: str, locale: str, tmp_path: Path
) -> None:
    unbroken = {key: value for key, value in UNBROKEN.items() if key in GIVEN[name]}

    for html in (fill(name, locale).html, fill(name, locale, **unbroken).html):
        show(browser, html, tmp_path / "mail.html", width=390, scheme="light")

        assert browser.value("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "locale"), EVERY)
def test_every_text_can_be_read_in_light_and_dark(
    browser: Chromium, name: str, locale: str, scheme: str, tmp_path: Path
) -> None:
    html = fill(name, locale).html
    show(browser, html, tmp_path / "mail.html", width=1000, scheme=scheme)

    contrast, text = browser.value(LEAST_CONTRAST)

    assert contrast >= 4.5, text
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(242, 244, 246)", "dark": "rgb(20, 23, 26)"}[scheme]


@pytest.mark.parametrize(("name", "locale"), EVERY)
def test_the_mail_is_no_wider_than_600_pixels(
    browser: Chromium, name: str, locale: str, tmp_path: Path
) -> None:
    show(browser, fill(name, locale).html, tmp_path / "mail.html", width=1400, scheme="light")

    assert browser.value("document.querySelector('.card').getBoundingClientRect().width") == 600
