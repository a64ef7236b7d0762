"""Docstrings of this project as Markdown: lines `name   meaning` become a list. Also an extension of griffe, for mkdocstrings."""

import re

import griffe

ITEM = re.compile(r"^(\w+(?:, \w+)*(?=\s{2})|\w+_\w+)\s+(\S.*)$")
"""A name or several and, two blanks or more behind, what they mean; one will do behind the longest name of a list."""
CONTINUED = re.compile(r"^ {6,}(\S.*)$")


def items_of(text: str) -> dict[str, str]:
    """The meaning of each name that a docstring lists, and its prose under "".

    `a, b   meaning` counts for both. A line that is indented by six blanks or more goes on.
    """
    found: dict[str, str] = {}
    prose, names = [], ()
    for line in _even(text):
        item, more = ITEM.match(line), CONTINUED.match(line)
        if item:
            names = tuple(item[1].split(", "))
            found |= dict.fromkeys(names, item[2])
        elif more and names:
            found |= {name: f"{found[name]} {more[1]}" for name in names}
        else:
            names = ()
            prose.append(line)
    return found | {"": "\n".join(prose).strip()}


def _even(text: str) -> list[str]:
    """Lines of a docstring without the indentation of its code."""
    first, *rest = text.splitlines() or [""]
    indents = [len(line) - len(line.lstrip()) for line in rest if line.strip()]
    cut = min(indents, default=0)
    return [first.strip(), *(line[cut:].rstrip() for line in rest)]


def markdown(text: str) -> str:
    """The docstring with its list of names as a list of Markdown."""
    lines, listed = [], False
    for line in _even(text):
        item, more = ITEM.match(line), CONTINUED.match(line)
        if item:
            if not listed:
                lines.append("")
            lines.append(f"* {', '.join(f'`{name}`' for name in item[1].split(', '))}: {item[2]}")
        elif more and listed:
            lines[-1] += f" {more[1]}"
        else:
            if listed and line:
                lines.append("")
            lines.append(line)
        listed = bool(item) or (listed and bool(more))
    # Names between brackets are shapes and ranges, no links.
    return re.sub(r"\[([^\]\n]*)\](?!\()", r"\\[\1\\]", "\n".join(lines))


class Lists(griffe.Extension):
    """Gives every docstring its Markdown."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
