"""The report of any finished run: its page, and its drawings as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kws_demo.drawings import training
from kws_demo.drawings.picture import write_picture
from kws_demo.report import ADAPTIVE, write_report
from kws_demo.report_architecture import views
from kws_demo.report_search import Search
from profilers.export import PROFILE_NAME
from toolkit.files import read_json, require_writable
from toolkit.profile import DeviceProfile
from toolkit.run import load_selected, read_log
from toolkit.spaces import find_space


def report_run(folder: Path, output: Path, *, pictures: Path | None = None, space: str | None = None) -> dict[str, Any]:
    """Write the page of a run, and its pictures if asked.

    Args:
        folder: what `milliwise search` wrote.
        pictures: the folder for the drawings, as SVG and as PNG.
        space: the search space of the run, where that is the user's own: its file or module, which is run.

    Returns:
        The JSON keys of `milliwise report`: run, report, pictures, not_drawn (reasons, a line each).

    Raises:
        MilliwiseError: the run is unfinished or damaged, of an own space that is not named, or something cannot be
            written.
    """
    require_writable(output)
    if pictures is not None:
        require_writable(pictures / "learning.svg")
    own = None if space is None else find_space(space)
    load_selected(folder, own)  # refuses what is no whole run
    run = read_json(folder / "run.json", "run")
    profile, log = DeviceProfile.load(folder / PROFILE_NAME), read_log(folder)
    search = Search.read(profile, run, own)
    found = (
        [] if search.graph is None or search.adaptive else views(search.graph, search.live, profile, search.edge_costs)
    )
    write_report(output, profile=profile, run=run, log=log, space=own)
    drawn = {view.name: view.markup for view in found} | {"learning": training.learning(log, search.limit, search.form)}
    paths = [
        path
        for name, markup in drawn.items()
        if pictures is not None and markup
        for path in write_picture(pictures, name, markup)
    ]
    reasons = [f"{view.heading.lower()}: {view.reason}" for view in found if view.markup is None]
    if search.graph is None:
        reasons.append("the architecture: its profile is of another graph than its space is now")
    if search.adaptive:
        reasons.append(ADAPTIVE)
    return {"run": str(folder), "report": str(output), "pictures": [str(path) for path in paths], "not_drawn": reasons}
