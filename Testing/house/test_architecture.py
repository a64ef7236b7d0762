"""The house rules: who imports whom, how long files are, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "ZSADCLIPLib"
FILES = sorted(ENGINE.rglob("*.py"))
PACKAGES = (
    *(
        "errors",
        "notes",
        "fields",
        "progress",
        "threads",
        "volume",
        "files",
        "volumes",
        "dicom",
        "synthetic",
        "evaluation",
        "datasets",
        "execution",
    ),
    *(
        "backbones",
        "adapters",
        "detection",
        "neighbours",
        "review",
        "training",
        "benchmark",
        "report",
        "remote",
        "jobs",
        "node",
        "serve",
        "cli",
    ),
)
"""The engine's parts from the ground up: each may import those before it, never those behind it."""
NEED_TORCH = ("backbones", "adapters", "detection", "neighbours", "training", "benchmark")


def module(path: Path) -> tuple[str, ...]:
    """A file as the words of its module, a package without its __init__."""
    words = path.relative_to(ENGINE).with_suffix("").parts
    return words[:-1] if words[-1] == "__init__" else words


MODULES = {module(path): path for path in FILES}


def imported(path: Path) -> set[tuple[str, ...]]:
    """The engine's modules that a file imports, at any depth."""
    found, package = set(), path.relative_to(ENGINE).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple(node.module.split(".") if node.module else ())
            named = {(*base, alias.name) for alias in node.names}
            found |= {name if name in MODULES else base for name in named}
    return found - {module(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ENGINE)))
def test_imports_point_one_way(path):
    level = {name: i for i, name in enumerate(PACKAGES)}
    if not module(path) or module(path)[0] not in level:
        return
    wrong = {".".join(m) for m in imported(path) if m and level.get(m[0], -1) > level[module(path)[0]]}
    assert not wrong, f"{'.'.join(module(path))} imports {wrong}, which stand above it"


def test_every_part_has_a_place():
    assert {name[0] for name in MODULES if name} == {*PACKAGES, "__main__"}


def test_no_modules_import_each_other_in_a_circle():
    left = {name: imported(path) & MODULES.keys() for name, path in MODULES.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or above one: {sorted('.'.join(name) for name in left)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ENGINE)))
def test_files_stay_small_and_the_engine_free_of_slicer(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320
    names = {a.name.split(".")[0] for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import) for a in n.names}
    assert not names & {"slicer", "qt", "ctk", "vtk"}


def test_what_needs_no_torch_imports_without_it():
    light = sorted(
        ".".join(("ZSADCLIPLib", *name)) for name in MODULES if name and name[0] in {*PACKAGES} - {*NEED_TORCH}
    )
    code = "import sys, importlib\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in light if "__main__" not in name
    )
    code += "\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_bare_unpickling():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert flags.get("weights_only") == "True", path
            if isinstance(node, ast.Import):
                assert not {"pickle", "dill", "joblib"} & {a.name for a in node.names}, path


def test_top_level_entries():
    names = ["ZSADCLIP", "ZSADCLIPLib", "Resources", "Testing", "README.md", "scripts", "CMakeLists.txt", "LICENSE"]
    names += ["CHANGELOG.md", "pyproject.toml", ".pre-commit-config.yaml", ".gitignore", ".ci/run", "NOTICE"]
    assert not [name for name in names if not (ROOT / name).exists()]


def test_no_large_files():
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT).stdout.split("\n")
    sizes = {name: (ROOT / name).stat().st_size for name in tracked if name and (ROOT / name).is_file()}
    models = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    pictures = {name: size for name, size in sizes.items() if name.endswith(".png")}
    assert max(pictures.values(), default=0) < 300e3, "scripts/make/small_png.py makes pictures small"
    assert 0 < max(sizes.values(), default=0) < 10e6
    assert models < 15e6 and sum(sizes.values()) - models < 12e6
