"""A drawing of the report as a file of its own: SVG with the style inside, and PNG, painted from the same elements."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kws_demo.drawings.tradeoff import standalone
from kws_demo.report_style import LIGHT, drawing_rules
from toolkit.files import write_bytes

Style = Mapping[str, str]
Draw = Callable[[Any, ElementTree.Element, Style], None]
POINTS = 0.75  # of a pixel
SHARP = 192  # dots in an inch, of 96 pixels
FONT = "DejaVu Sans"  # comes with matplotlib, so that pictures are the same everywhere
NARROW = 0.9  # it is wider than the fonts that the drawings are made for
PAPER = "card"
RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
SELECTOR = re.compile(r"([a-z]*)((?:\.[\w-]+)*)")
VARIABLE = re.compile(r"var\(--([\w-]+)\)")
STEP = re.compile(r"[MLCZh]|-?\d+(?:\.\d+)?")


def write_picture(folder: Path, name: str, markup: str) -> list[Path]:
    """Write `name`.svg and `name`.png into a folder; their paths.

    Raises:
        MilliwiseError: they cannot be written.
    """
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    for path, content in zip(paths, (standalone(markup).encode("utf-8", "replace"), to_png(markup)), strict=True):
        write_bytes(path, content)
    return paths


def to_png(markup: str) -> bytes:
    """A drawing of `Canvas` in the colours of a light page, two dots a pixel; equal ones give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    root = ElementTree.fromstring(markup)
    _, _, width, height = map(float, root.get("viewBox", "0 0 1 1").split())
    colours = dict(part.split(":") for part in LIGHT.replace("\n", "").replace("--", "").split(";") if part)
    figure = Figure((width / 96, height / 96), dpi=SHARP, facecolor=colours[PAPER])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    rules = _rules(colours)
    for order, element in enumerate(root):
        if draw := DRAWN.get(element.tag):
            for artist in draw(element, _style(element, rules, colours)):
                artist.set_zorder(order)
                axes.add_artist(artist)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=SHARP, facecolor=colours[PAPER])
    return content.getvalue()


Rule = tuple[int, str, frozenset[str], dict[str, str]]  # how special, tag, classes, what it sets


def _rules(colours: Mapping[str, str]) -> list[Rule]:
    """The style sheet, what is more special last."""
    found = []
    for selectors, body in RULE.findall(drawing_rules()):
        shown = VARIABLE.sub(lambda match: colours[match[1]], body)
        sets = dict(part.split(":", 1) for part in shown.split(";") if part)
        for selector in selectors.split(","):
            if match := SELECTOR.fullmatch(selector.strip()):
                classes = frozenset(match[2].split(".")[1:])
                found.append((10 * len(classes) + bool(match[1]), match[1], classes, sets))
    return sorted(found, key=lambda rule: rule[0])


def _style(element: ElementTree.Element, rules: list[Rule], colours: Mapping[str, str]) -> Style:
    """As a browser finds it: what the sheet says comes before the attributes."""
    told = {"fill": "#000", "stroke": "none", "stroke-width": "1", "font-size": "12.5px", **element.attrib}
    classes = set(element.get("class", "").split())
    for _, tag, needed, sets in rules:
        if tag in ("", element.tag) and needed <= classes and (tag or needed):
            told |= sets
    return told


def _size(style: Style, name: str, default: float = 1.0) -> float:
    return float(style[name].removesuffix("px")) if name in style else default


def _paint(style: Style, filled: bool = True) -> dict[str, Any]:
    """Of a patch, in the words of matplotlib."""
    from matplotlib.colors import to_rgba

    def colour(name: str) -> Any:
        return "none" if style[name] == "none" else to_rgba(style[name], _size(style, f"{name}-opacity"))

    dashes = [float(part) for part in style.get("stroke-dasharray", "").split()]
    width = _size(style, "stroke-width") * POINTS
    line = (0, tuple(part * POINTS / width for part in dashes)) if dashes and width else "solid"
    return {
        "facecolor": colour("fill") if filled else "none",
        "edgecolor": colour("stroke"),
        "linewidth": width if style["stroke"] != "none" else 0.0,
        "linestyle": line,
        "capstyle": "round" if style.get("stroke-linecap") == "round" else "butt",
        "joinstyle": "round" if style.get("stroke-linejoin") == "round" else "miter",
    }


def _numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.get(name, "0")) for name in names]


def _path(element: ElementTree.Element, style: Style) -> list[Any]:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    corners: list[tuple[float, float]] = []
    codes: list[int] = []
    steps = STEP.findall(element.get("d", ""))
    kinds = {"M": (1, [Outline.MOVETO]), "L": (1, [Outline.LINETO]), "C": (3, [Outline.CURVE4] * 3)}
    while steps:
        letter = steps.pop(0)
        if letter == "Z":
            corners, codes = [*corners, corners[0]], [*codes, int(Outline.CLOSEPOLY)]
        elif letter == "h":
            corners.append((corners[-1][0] + float(steps.pop(0)), corners[-1][1]))
            codes.append(int(Outline.LINETO))
        else:
            count, code = kinds[letter]
            corners += [(float(steps.pop(0)), float(steps.pop(0))) for _ in range(count)]
            codes += map(int, code)
    return [PathPatch(Outline(corners, codes), **_paint(style))] if corners else []


def _line(element: ElementTree.Element, style: Style) -> list[Any]:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    x1, y1, x2, y2 = _numbers(element, "x1", "y1", "x2", "y2")
    return [PathPatch(Outline([(x1, y1), (x2, y2)]), **_paint(style, filled=False))]


def _rectangle(element: ElementTree.Element, style: Style) -> list[Any]:
    from matplotlib.patches import BoxStyle, FancyBboxPatch

    x, y, width, height, radius = _numbers(element, "x", "y", "width", "height", "rx")
    box = BoxStyle.Round(pad=0, rounding_size=radius) if radius else BoxStyle.Square(pad=0)
    return [FancyBboxPatch((x, y), width, height, boxstyle=box, **_paint(style))]


def _circle(element: ElementTree.Element, style: Style) -> list[Any]:
    from matplotlib.patches import Circle

    x, y, radius = _numbers(element, "cx", "cy", "r")
    return [Circle((x, y), radius, **_paint(style))]


def _text(element: ElementTree.Element, style: Style) -> list[Any]:
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text

    x, y = _numbers(element, "x", "y")
    turned = re.match(r"rotate\((-?[\d.]+)", element.get("transform", ""))
    text = Text(
        x,
        y,
        element.text or "",
        color=style["fill"],
        fontsize=_size(style, "font-size") * POINTS * NARROW,
        fontfamily=FONT,
        fontweight="bold" if _size(style, "font-weight", 400.0) >= 600 else "normal",
        ha={"middle": "center", "end": "right"}.get(element.get("text-anchor", ""), "left"),
        va="baseline",
        rotation=-float(turned[1]) if turned else 0.0,
        rotation_mode="anchor",
        parse_math=False,
    )
    if style["stroke"] != "none":
        text.set_path_effects([withStroke(linewidth=_size(style, "stroke-width") * POINTS, foreground=style["stroke"])])
    return [text]


DRAWN: Mapping[str, Callable[[ElementTree.Element, Style], list[Any]]] = {
    "path": _path,
    "line": _line,
    "rect": _rectangle,
    "circle": _circle,
    "text": _text,
}
