"""What ./scripts/docs does to pages on their way into the site, so that the same files read well on GitHub.

README, CONTRIBUTING and CHANGELOG become pages, links to files outside `docs` are led into the site, and two marks are replaced:
`<!-- generated: command line -->` by what `generated.PARTS` makes of the code, `<!-- python: NAME -->` by the docstring of NAME.
"""

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

from generated import PARTS  # noqa: E402

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages that lie beside `docs`, and their names in the site."""
LINK = re.compile(r'(\]\(|(?:src|href)=")([^)\s"]+)(?=[)"])')
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
COMMAND = re.compile(
    r"^```\n(?=(?:# |\./scripts|scripts/|\.venv/|zsadclip |pip |python |PythonSlicer |Slicer |ssh ))", re.M
)
LIST_AFTER_TEXT = re.compile(r"^(?![*+|>#<\s-])(.+\n)(?=[*+-] )", re.M)
sources = {site: name for name, site in PAGES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside `docs`, and the files outside it that pages link to."""
    for name, site in PAGES.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / name)))
    pages = [(page, ROOT / page) for page in PAGES]
    pages += [(f"docs/{file.src_uri}", Path(file.abs_src_path)) for file in files.documentation_pages() if file.src_dir]
    for page, path in pages:
        for _, link in LINK.findall(path.read_text(encoding="utf-8")):
            name = named(page, link.partition("#")[0])
            site = name and site_name(name)
            if site and site.startswith("files/") and files.get_file_from_path(site) is None:
                files.append(File.generated(config, site, abs_src_path=str(ROOT / name)))
    return files


def named(page: str, target: str) -> str | None:
    """The file of the repository that a link on one of its pages names; None for addresses and for what is no file."""
    if not target or re.match(r"[a-z]+:", target):
        return None
    name = os.path.normpath(os.path.join(os.path.dirname(page), target))
    return name if (ROOT / name).is_file() else None


def site_name(name: str) -> str:
    """Where a file of the repository is in the site."""
    if name in PAGES:
        return PAGES[name]
    # Without an ending, a browser would offer a file to be saved.
    return name.removeprefix("docs/") if name.startswith("docs/") else f"files/{name}{'' if '.' in name else '.txt'}"


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:
    """Lead links into the site, and replace the marks."""
    site = page.file.src_uri
    if site == "index.md":
        page.meta["hide"] = ["navigation"]
    source = sources.get(site, f"docs/{site}")

    def led(match: re.Match) -> str:
        target, hash_sign, anchor = match[2].partition("#")
        name = named(source, target)
        if name is None:
            return match[0]
        path = os.path.relpath(site_name(name), os.path.dirname(site) or ".")
        return f"{match[1]}{path}{hash_sign}{anchor}"

    parts = FENCE.split(markdown)
    # GitHub begins a list without an empty line before it, also behind code.
    parts[::2] = [LIST_AFTER_TEXT.sub(r"\1\n", LINK.sub(led, f"\n{text}")) for text in parts[::2]]
    text = COMMAND.sub("```sh\n", "".join(parts))
    text = re.sub(r"^<!-- python: (\S+) -->$", r"::: \1", text, flags=re.M)
    text = re.sub(r"^<!-- generated: (.+) -->$", lambda match: PARTS[match[1]](), text, flags=re.M)
    return re.sub(r"^ *<!-- (?:run|needs|tested).*? -->\n", "", text, flags=re.M)
