"""HTML pages from the templates in workshop/templates. A page is one file that loads nothing."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, values: Mapping[str, object]) -> bytes:
    """Returns a page, from a template and the values of its variables, which are escaped."""
    import jinja2  # here, because it takes long to load

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["day"] = day
    text: str = environment.get_template(template).render(values)
    return text.encode(errors="replace")


def day(when: str) -> str:
    """Returns the date of a time in ISO 8601, as people write it: 24 November 2026."""
    time = datetime.datetime.fromisoformat(when)
    return f"{time.day} {time:%B %Y}"
