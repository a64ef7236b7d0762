"""HTML pages from the templates beside this file; everything that comes from files is escaped there."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.text import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: str | os.PathLike, cases: list[dict], title: str) -> None:
    """Write an HTML page beside the cases' pictures (ID.png); `cases` are the dictionaries of their JSON files."""
    folder = Path(path).parent
    pictures = {case["id"]: f"{case['id']}.png" for case in cases if (folder / f"{case['id']}.png").is_file()}
    shown = [{**case, "picture": pictures.get(case["id"])} for case in cases]
    write_text(path, page("cases", title=title, cases=shown))


def page(template: str, **values) -> str:
    """The page of a template by its name, such as "run", with its values; all of them are escaped."""
    return _environment().get_template(f"{template}.html.j2").render(values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals |= {"script": Markup(script), "script_digest": digest}
    environment.filters["indented"] = lambda data, sort=False: json.dumps(data, indent=1, sort_keys=sort)
    return environment
