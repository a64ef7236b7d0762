"""The house rules: who imports whom, how long files are, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "ZSADCLIPLib"
FILES = sorted(ENGINE.rglob("*.py"))
LEVELS = [
    [
        "errors",
        "progress",
        "suffixes",
        "folders",
        "volume",
        "atomic",
        "lock",
        "privacy",
        "documents",
        "manifest",
        "outputs",
        "version",
    ],
    [
        "io",
        "itk_io",
        "itk_header",
        "nifti_io",
        "cases",
        "slicing",
        "intensity",
        "metrics",
        "curves",
        "sketch",
        "findings",
        "pictures",
    ]
    + ["industrial", "phantom", "phantom_anatomy", "phantom_lesions", "page"]
    + ["dataset", "audit", "rows", "thresholds", "lesions", "statistics", "baseline", "evaluate"]
    + ["labels", "splits", "results", "rowfiles"]
    + ["scaling", "settings", "profiles", "augment", "material", "cohort"],
    ["typeset", "sections", "tables", "training_table", "casetable", "comparison", "bins", "decomposition", "figures"]
    + ["evidence", "predicates", "claims", "report"],
    ["backbones"],
    ["adapters"],
    ["devices", "batches", "checkpoint", "detector", "features", "train"],
    ["executor", "processes", "cluster", "table"],
    ["scoring", "clocks", "row_tasks", "sources", "plan", "estimate", "steps", "benchmark", "detect_case"]
    + ["variations", "training_plan"],
    ["detect_job", "benchmark_job", "train_job", "weights_job"],
    ["jobs"],
    ["child", "worker"],
    ["arguments", "__main__"],
]
TORCH_FREE = [name for level in LEVELS[:3] for name in level if (ENGINE / f"{name}.py").is_file()]


def part(path: Path) -> str:
    relative = path.relative_to(ENGINE)
    return relative.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The engine's parts that a file imports, at any depth."""
    found, package = set(), path.relative_to(ENGINE).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            found |= {(*base, name)[0] for name in names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ENGINE)))
def test_imports_point_one_way(path):
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    if part(path) == "__init__":
        return
    assert part(path) in level, f"{part(path)} has no place in the order of imports"
    wrong = {name for name in imported(path) if level.get(name, -1) > level[part(path)]}
    assert not wrong, f"{part(path)} imports {wrong}, which stand above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ENGINE)))
def test_files_stay_small_and_the_engine_free_of_slicer(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320
    names = {a.name.split(".")[0] for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import) for a in n.names}
    assert not names & {"slicer", "qt", "ctk", "vtk"}


def test_torch_free_modules_import_without_torch():
    code = "import sys, importlib\n" + "\n".join(f"importlib.import_module('ZSADCLIPLib.{n}')" for n in TORCH_FREE)
    code += "\nimport ZSADCLIPLib.adapters, ZSADCLIPLib.backbones, ZSADCLIPLib.checkpoint, ZSADCLIPLib.jobs"
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
    assert 0 < max(sizes.values(), default=0) < 10e6 and sum(sizes.values()) < 25e6
