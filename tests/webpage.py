"""Checks the HTML pages that the guide writes."""

import html.parser


def whole_by_itself(page: str) -> bool:
    """Returns whether a page loads nothing else, supports dark mode, and can be
    printed."""
    loads: list[str | None] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            loads.extend(v for k, v in attrs if k in ("src", "href"))

    Reader().feed(page)
    words = "prefers-color-scheme: dark", "@media print", 'lang="en"'
    return not loads and "url(" not in page and all(word in page for word in words)
