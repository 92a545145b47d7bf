"""The frame of a report: a static HTML page that opens without a network, a script or another file."""

from __future__ import annotations

from collections.abc import Iterable

from kws_demo.drawings.svg import plain
from kws_demo.drawings.values import UNMEASURED
from kws_demo.report_style import style_sheet

# Should a text ever slip past the escaping, the browser still neither runs nor fetches anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_page(title: str, parts: Iterable[str], of: str) -> str:
    """The whole page.

    Args:
        title: of the browser's window, as markup.
        parts: markup: the header and the sections.
        of: what the figures are of, a noun.
    """
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{title}</title><style>{style_sheet()}</style></head><body><main>",
            *parts,
            f"<footer>Made by milliwise. Every figure is of this {plain(of)}; ",
            "a missing one is said to be missing.</footer>",
            "</main></body></html>\n",
        ]
    )


def section(anchor: str, heading: str, lead: str, body: str | None) -> str:
    """A titled part of the page; without a body it says that there is nothing to show."""
    explained = f'<p class="lead">{lead}</p>' if lead and body else ""
    shown = body or f'<p class="absent-note">{UNMEASURED}</p>'
    shown = f"<figure>{shown}</figure>" if shown.startswith("<svg") else shown
    return f'<section id="{anchor}"><h2>{heading}</h2>{explained}{shown}</section>'
