"""Every command that a page shows: its options parse; it is run here, run by a test that the page names, or says what it needs.

The line before a block of commands says which: `<!-- run -->`, `<!-- tested: FILE -->` or `<!-- needs data -->`. Commands of the
pages in docs/methods need weights or data of yours throughout, so they have no marks.
"""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import affine

from ZSADCLIPLib.cli import COMMANDS, main, parser
from ZSADCLIPLib.cli.options import given
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.fields import from_dict
from ZSADCLIPLib.jobs.registry import JOBS
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NEED_DATA = ROOT / "docs" / "methods"
BLOCK = re.compile(r"(?:^ *<!-- (.+?) -->\n)?^( *)```\n(.*?)^\2```$", re.M | re.S)
MARK = re.compile(r"run|tested: \S+|needs [\w' ]+")
OURS = re.compile(r"zsadclip |\.venv/bin/zsadclip |(?:\.venv/bin/python |\./)?scripts/|pip |python -m ZSADCLIPLib ")


@dataclass(frozen=True)
class Block:
    """Commands of a page that stand together, and the mark before them ("" without one)."""

    page: Path
    mark: str
    commands: tuple[str, ...]


@cache
def blocks(page: Path) -> list[Block]:
    found = []
    for mark, _, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = tuple(line.strip() for line in text.splitlines() if OURS.match(line.strip()))
        if lines:
            found.append(Block(page, mark, lines))
    return found


def words(command: str) -> list[str]:
    """A command as its arguments, comments dropped, and what a batch system sets filled in."""
    return shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "1"), comments=True)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_COMMANDS = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_every_block_says_how_it_is_tested(page):
    for block in blocks(page):
        if page.is_relative_to(NEED_DATA) and not block.mark:
            continue
        hint = "write <!-- run -->, <!-- tested: FILE --> or <!-- needs data --> before it"
        assert MARK.fullmatch(block.mark), f"{block.commands[0]!r}: {hint}"
        if block.mark.startswith("tested: "):
            assert (ROOT / block.mark.partition(" ")[2]).is_file()


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_options_and_values_are_those_of_the_parser(page, capsys):
    for command in (line for block in blocks(page) for line in block.commands):
        first, *rest = words(command)
        if first.endswith("zsadclip") or (first == "python" and rest.pop(0) == "-m" and rest.pop(0)):
            parsed(command, rest)
        elif "scripts/" in first or (rest and rest[0].startswith("scripts/")):
            script(command, first if "scripts/" in first else rest.pop(0), rest)


def parsed(command: str, arguments: list[str]) -> None:
    """Hold the arguments against the command's parser, and their values against its job."""
    assert arguments[0] in COMMANDS, command
    try:
        chosen = parser((arguments[0],)).parse_args(arguments)
    except SystemExit as end:
        assert end.code == 0, command  # --help
        return
    if kind := JOBS.get(arguments[0]):
        from_dict(kind, given(kind, chosen))


def script(command: str, path: str, arguments: list[str]) -> None:
    """The script is there, and it or a module that it imports knows the option."""
    file = ROOT / path.removeprefix("./")
    assert file.is_file(), command
    beside = [file, *file.parent.glob("*_parts/*.py"), ROOT / "ZSADCLIPLib" / "cli" / f"{file.name}.py"]
    text = "".join(each.read_text(encoding="utf-8") for each in beside if each.is_file())
    assert not [option for option in arguments if option.startswith("-") and option not in text], command


def head(shape=(24, 24, 3)) -> Volume:
    """A head that costs nothing: bright noise with an exactly zero margin."""
    array = np.zeros(shape, np.float32)
    array[4:-4, 4:-4] = np.random.default_rng(3).uniform(50, 200, (shape[0] - 8, shape[1] - 8, shape[2]))
    return Volume(array, affine((4.0, 4.0, 4.0)), "head")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the pages speak of, small: a scan, a folder of scans, their truth and the table that names both."""
    folder = tmp_path_factory.mktemp("commands")
    truth = head().with_array((head().array > 195).astype(np.uint8))
    for file in ("t2w.nii.gz", "scans/p01.nii.gz", "scans/p02.nii.gz"):
        (folder / file).parent.mkdir(exist_ok=True)
        write_volume(folder / file, head(), "float32")
    (folder / "truth").mkdir()
    for case in ("p01", "p02"):
        write_volume(folder / "truth" / f"{case}.nii.gz", truth, "uint8")
    rows = [f"{case},scans/{case}.nii.gz,truth/{case}.nii.gz" for case in ("p01", "p02")]
    (folder / "set.csv").write_text("\n".join(["id,image,mask", *rows, ""]))
    return folder, set()


def thin(folder: Path) -> None:
    """Cut the volumes that `zsadclip phantom` made to a few coarse slices: they are real, and this is no place to wait."""
    for file in folder.rglob("*.nii.gz"):
        whole = read_volume(file)
        few = np.ascontiguousarray(whole.array[::8, ::8, :: max(whole.array.shape[2] // 3, 1)])
        write_volume(file, Volume(few, whole.affine @ np.diag([8, 8, 1, 1]), whole.name), "float32")


TO_RUN = [block for page in PAGES for block in blocks(page) if block.mark == "run"]


@pytest.mark.parametrize("block", TO_RUN, ids=lambda block: f"{name(block.page)}: {block.commands[0][:40]}")
def test_commands_that_need_nothing_run(block, place, monkeypatch, capsys):
    folder, done = place
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", str(folder / "texts"))
    for command in block.commands:
        _, *arguments = words(command)
        if tuple(arguments) in done:  # another page shows it, too
            continue
        assert main(arguments) == 0, capsys.readouterr().err
        done.add(tuple(arguments))
        if arguments[0] == "phantom":
            thin(folder / arguments[arguments.index("--out") + 1])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--no-such", "--method nothing", "--min-depth -1"])
def test_wrong_options_and_values_are_seen(wrong, capsys):
    command = f"zsadclip detect a -o b {wrong}"
    with pytest.raises((AssertionError, UsageError)):
        parsed(command, words(command)[1:])


def test_a_missing_script_and_its_wrong_option_are_seen():
    for path, options in (("scripts/nothing", []), ("scripts/check/parity", ["--no-such"])):
        with pytest.raises(AssertionError):
            script(path, path, options)
