"""One self-contained HTML page about a study: its front, how it got there, what failed, its settings.

The page holds everything it shows, plotly.js included. Its own content security policy forbids any
network use, and lets only the page's two scripts run, whatever text the study brought along.
"""

from __future__ import annotations

import os
from pathlib import Path

from nas.report.view import ReportView

__all__ = ["ReportView", "write_report"]


def write_report(path: Path, view: ReportView) -> None:
    """Writes the page to `path`; an older page there is replaced at once or not at all.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    from nas.report.page import render

    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(render(view), encoding="utf-8", errors="replace", newline="\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
