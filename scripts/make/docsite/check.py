#!/usr/bin/env python3
"""Look at a built site: links and pictures lead to files of it, anchors are there, nothing is fetched from another host.

usage: scripts/make/docsite/check.py SITE
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""The attributes whose address a browser asks for by itself."""


class Page(HTMLParser):
    """The ids of a page, its links, and the addresses that it fetches."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if FETCHED.get(tag) in found and found.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(found[FETCHED[tag]])


def problems(site: Path) -> list[str]:
    """A line for each thing that is wrong; raises FileNotFoundError where there is no site."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if site / "index.html" not in pages:
        raise FileNotFoundError(f"{site} has no index.html; ./scripts/docs makes it")
    found = []
    for path, page in pages.items():
        if path.name == "404.html":  # its addresses are those of a server
            continue
        name = path.relative_to(site)
        found += [f"{name} fetches {link}" for link in page.fetched if _abroad(link)]
        found += [f"{name}: {said}" for link in page.links + page.fetched if (said := _wrong(path, link, pages))]
    for path in site.rglob("*.css"):
        addresses = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)} fetches {link}" for pair in addresses if _abroad(link := "".join(pair))]
    return found


def _abroad(link: str) -> bool:
    return link.startswith("//") or urlsplit(link).scheme not in ("", "data", "file")


def _wrong(page: Path, link: str, pages: dict[Path, Page]) -> str:
    """What is wrong with a link, empty for a good one and for one to another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return f"{link} leads nowhere"
    fragment = unquote(parts.fragment)
    if fragment and target in pages and fragment not in pages[target].ids:
        return f"{link}: there is no such place"
    return ""


def main() -> int:
    """1 with a line for each problem, else 0."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        found = problems(Path(sys.argv[1]).resolve())
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
