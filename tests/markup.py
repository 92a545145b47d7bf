"""Read the report as a browser and an SVG viewer do, for the tests."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link"}
FORBIDDEN = {"script", "img", "link", "iframe", "object", "embed", "image", "use", "foreignobject", "form", "base"}
HARMLESS = "id class style lang charset content name http-equiv role aria-label href".split()  # noqa: SIM905
PLACED = "viewbox x y x1 y1 x2 y2 cx cy r rx d width height transform text-anchor".split()  # noqa: SIM905
DRAWN = {"fill-opacity", "stroke-width", *PLACED}


class Reader(HTMLParser):
    """Reads a page as a browser does: its tags, attributes and text, and whether every tag is closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all_text(self) -> str:
        """What a person can read, and the style sheet."""
        return " ".join(self.text).replace("\xa0", " ")

    def assert_harmless(self) -> None:
        """Nothing in the page runs, or is fetched from elsewhere."""
        for tag, attributes in self.tags:
            assert tag not in FORBIDDEN
            assert attributes.keys() <= DRAWN.union(HARMLESS), (tag, attributes)
            assert (attributes.get("href") or "#").startswith("#")
        assert "url(" not in self.all_text() and "@import" not in self.all_text()


def drawing(markup: str | None) -> ElementTree.Element:
    """A drawing as a tree; it must be well-formed XML."""
    assert markup is not None
    return ElementTree.fromstring(markup)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """The elements of a style."""
    return [element for element in root.iter() if name in element.get("class", "").split()]


def words(root: ElementTree.Element) -> list[str]:
    """The texts, in order."""
    return [element.text or "" for element in root.iter("text")]
