"""What a release needs: file lists, install tree, catalog entry, panel file and translatable texts."""

import ast
import importlib.machinery
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import slicer_harness

ROOT = Path(__file__).resolve().parents[2]
SLICER_SIDE = sorted((ROOT / "ZSADCLIP").rglob("*.py"))
UI = ElementTree.parse(ROOT / "ZSADCLIP" / "Resources" / "UI" / "ZSADCLIP.ui").getroot()
CATEGORIES = {"Analysis", "Neuroimaging", "Quantification", "Segmentation"}  # of the index's list, those that fit


def cmake_lists():
    path = ROOT / "scripts" / "make" / "cmake_lists"
    loader = importlib.machinery.SourceFileLoader("cmake_lists", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("cmake_lists", loader))
    loader.exec_module(module)
    return module


def listed(folder):
    """The files that a CMakeLists.txt ships."""
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"# files: \w+\n(.*?)# end of files", text, re.DOTALL)
    return {line.strip() for block in blocks for line in block.splitlines() if line.strip()}


def test_cmake_lists_equal_the_files_on_disk():
    assert cmake_lists().main(["--check"]) == 0, "run scripts/make/cmake_lists"


def test_lists_hold_what_the_module_cannot_run_without():
    assert {"ZSADCLIP.py", "ZSADCLIPSlicer/engine/process.py", "Resources/UI/ZSADCLIP.ui"} <= listed("ZSADCLIP")
    assert {"__main__.py", "backbones/registry.py", "prompts/vand.json", "data/anatomy_colin27.npz"} <= listed(
        "ZSADCLIPLib"
    )


def test_a_missing_file_is_noticed(tmp_path):
    lists = cmake_lists()
    text = (ROOT / "ZSADCLIP" / "CMakeLists.txt").read_text(encoding="utf-8")
    wrong = text.replace("  ZSADCLIPSlicer/engine/process.py\n", "")
    assert wrong != text
    folder = ROOT / "ZSADCLIP"
    resources = [name for name in lists.resources_of(folder) if name != "CMakeLists.txt"]
    assert lists.with_lists(wrong, {"SCRIPTS": lists.scripts_of(folder), "RESOURCES": resources}) == text


@pytest.fixture
def installed(tmp_path):
    """A folder with exactly the listed files, as Slicer's installer lays them out, and an environment to import from it."""
    for folder, target in (("ZSADCLIPLib", tmp_path / "ZSADCLIPLib"), ("ZSADCLIP", tmp_path)):
        for name in listed(folder):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / folder / name).read_bytes())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}
    return environment | {"PYTHONPATH": str(tmp_path)}


def test_the_package_is_at_most_15_mb(installed, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        archive.add(tmp_path)
    assert 10e6 < packed.tell() < 15e6


def run_clean(code, environment, folder):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_tree_imports_in_a_clean_process(installed, tmp_path):
    code = (
        "import sys, pkgutil, importlib, ZSADCLIPLib\n"
        f"assert ZSADCLIPLib.__file__.startswith({str(tmp_path)!r}), ZSADCLIPLib.__file__\n"
        "for m in pkgutil.walk_packages(ZSADCLIPLib.__path__, 'ZSADCLIPLib.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "from ZSADCLIPLib.adapters.prompts import load_prompts\n"
        "load_prompts('vand')\n"
        "from ZSADCLIPLib.backbones import load_backbone, weights\n"
        "from ZSADCLIPLib.errors import WeightsError\n"
        "there = [row['name'] for row in weights.status() if row['state'] == 'embedded']\n"
        "assert there == ['mini-mri', 'mini'], there\n"
        "try: load_backbone('mini-rn')\n"
        "except WeightsError as error: assert 'leaves out what is for the benchmark' in str(error), error\n"
        "else: raise AssertionError('not left out')\n"
        "print('ok')"
    )
    done = run_clean(code, installed, tmp_path)
    assert done.stdout.strip() == "ok", done.stderr


FRESH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nibabel", "torch", "torchvision", "open_clip", "safetensors", "sklearn", "SimpleITK"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.path.append(TESTING)
import slicer_harness
import ZSADCLIPLib.jobs.child  # a model can be downloaded before the packages are there
env = slicer_harness.start(MODULE)
from slicer_cases import fake, head
node = head()
widget = slicer_harness.make_panel(env)
assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
widget.inputs.onHealth()
assert "nibabel" in widget.ui.healthText.plainText
code = "import sys; from pathlib import Path; print('exchanged', Path(sys.argv[1]).with_name('input.nii').stat().st_size)"
run = env.module.ZSADCLIPLogic().process(node, wait=False, command=lambda job: [sys.executable, "-c", code, str(job)])
slicer_harness.spin(lambda: run.poll() or run.done)
assert "exchanged 215392" in run.log, run.log
widget.cleanup()
print("ok")
"""


def test_the_installed_module_opens_in_a_slicer_without_the_engines_packages(installed, tmp_path):
    slicer_harness.require_slicer_core()
    code = FRESH.replace("TESTING", repr(str(ROOT / "Testing" / "support"))).replace(
        "MODULE", repr(str(tmp_path / "ZSADCLIP.py"))
    )
    done = run_clean(code, installed | {"QT_QPA_PLATFORM": "offscreen"}, tmp_path)
    assert done.stdout.strip().endswith("ok"), done.stderr


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cmake_installs_beside_the_module(tmp_path):
    config = tmp_path / "config"
    config.mkdir()
    (config / "SlicerConfig.cmake").write_text(STAND_IN, encoding="utf-8")
    for name in ("Use", "Generate", "Pack"):
        (config / f"{name}.cmake").write_text("", encoding="utf-8")
    run = lambda *a: subprocess.run(["cmake", *a], check=True, capture_output=True)  # noqa: E731
    run("-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DSlicer_DIR={config}")
    run("--install", str(tmp_path / "build"), "--prefix", str(tmp_path / "installed"))
    installed = tmp_path / "installed" / "qt-scripted-modules"
    found = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    scripts = {f"ZSADCLIPScripts/{name}" for name in ("slicer_batch.py", "benchmark", "train")}
    assert found == listed("ZSADCLIP") | {f"ZSADCLIPLib/{name}" for name in listed("ZSADCLIPLib")} | scripts


STAND_IN = """
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR qt-scripted-modules)
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/Use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Generate.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Pack.cmake")
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(ARG "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  set(folder qt-scripted-modules)
  if(ARG_WITH_SUBDIR)
    get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(folder ${folder}/${name})
  endif()
  foreach(file ${ARG_SCRIPTS} ${ARG_RESOURCES})
    get_filename_component(part "${file}" PATH)
    install(FILES ${file} DESTINATION ${folder}/${part})
  endforeach()
endfunction()
"""


def test_the_module_file_stays_thin():
    assert len((ROOT / "ZSADCLIP" / "ZSADCLIP.py").read_text(encoding="utf-8").splitlines()) < 400
    for path in SLICER_SIDE:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 300 or path.name == "ZSADCLIP.py", path


def test_the_engine_never_imports_slicer_or_qt():
    for path in (ROOT / "ZSADCLIPLib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {n.split(".")[0] for n in names} & {"slicer", "qt", "ctk", "vtk"}, path


def test_extension_metadata_meets_the_rules_of_the_index():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    values = dict(re.findall(r'^set\((EXTENSION_\w+) "([^"]*)"\)$', text, re.MULTILINE))
    name = re.search(r"^project\((\w+)\)", text, re.MULTILINE).group(1)
    assert not name.startswith("Slicer") and (ROOT / "Resources" / f"{name}.json").is_file()
    assert {"EXTENSION_HOMEPAGE", "EXTENSION_DESCRIPTION", "EXTENSION_CONTRIBUTORS", "EXTENSION_DEPENDS"} <= set(values)
    for url in [values["EXTENSION_ICONURL"], *values["EXTENSION_SCREENSHOTURLS"].split()]:
        assert url.startswith("https://") and url.endswith(".png")
        assert (ROOT / url.split("/main/")[1]).is_file(), url
    assert "## NEXT_MODULE" in text and (ROOT / "LICENSE").is_file()


def test_catalog_entry_meets_the_rules_of_the_index():
    raw = (ROOT / "Resources" / "ZSADCLIP.json").read_bytes()
    entry = json.loads(raw)
    assert b"\r" not in raw
    allowed = {"$schema", "category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory", "tier"}
    assert set(entry) <= allowed | {"dicom_support_rule", "enabled"}
    assert entry["category"] in CATEGORIES and entry["tier"] in (1, 3, 5)
    assert re.fullmatch(r"https://github\.com/[\w-]+/Slicer[\w-]+\.git", entry["scm_url"])
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    depends = re.search(r'EXTENSION_DEPENDS "([^"]*)"', text).group(1).split()
    assert entry["build_dependencies"] == [name for name in depends if name != "NA"]


def widgets():
    return UI.iter("widget")


def test_every_mrml_widget_is_told_its_scene():
    top = next(widgets()).get("name")
    mrml = {w.get("name") for w in widgets() if w.get("class").startswith("qMRML")} - {top}
    connected = {
        c.findtext("receiver")
        for c in UI.iter("connection")
        if c.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)" and c.findtext("sender") == top
    }
    assert mrml and mrml == connected


def test_parameter_names_of_the_panel_exist():
    tree = ast.parse((ROOT / "ZSADCLIP" / "ZSADCLIPSlicer" / "panels" / "parameters.py").read_text(encoding="utf-8"))
    fields = {
        n.target.id for c in tree.body if isinstance(c, ast.ClassDef) for n in c.body if isinstance(n, ast.AnnAssign)
    }
    used = {
        p.findtext("string") for w in widgets() for p in w.findall("property") if p.get("name") == "SlicerParameterName"
    }
    assert used and used <= fields


def test_every_control_has_a_tooltip():
    plain = {"qMRMLWidget"}
    for widget in widgets():
        if widget.get("class") not in plain:
            tips = [p.findtext("string") for p in widget.findall("property") if p.get("name") == "toolTip"]
            assert tips and tips[0], widget.get("name")


def test_custom_widgets_are_declared():
    declared = {c.findtext("class") for c in UI.iter("customwidget")}
    used = {w.get("class") for w in widgets() if w.get("class").startswith(("qMRML", "ctk"))}
    assert used == declared


@pytest.mark.parametrize("path", SLICER_SIDE, ids=lambda p: p.name)
def test_translated_texts_are_literals(path):
    """lupdate finds literals only: no f-strings, no expressions, and format() outside."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            assert len(node.args) == 1 and isinstance(node.args[0], ast.Constant), (path, node.lineno)


@pytest.mark.parametrize("path", SLICER_SIDE, ids=lambda p: p.name)
def test_texts_shown_in_widgets_are_translated(path):
    """A literal text given to a widget must go through _()."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and target.attr in ("text", "toolTip", "title"):
                assert not re.search("[a-z]", node.value.value), (path, node.lineno)


WORDS = {"First slice", "Last slice", "Highest score", "Slice score"}  # keys of columns
WORDS |= {"The ZSADCLIP developers"}


WRITTEN_TO_TERMINALS = {"selftest.py", "batch.py"}


@pytest.mark.parametrize("path", [p for p in SLICER_SIDE if p.name not in WRITTEN_TO_TERMINALS], ids=lambda p: p.name)
def test_every_text_of_several_words_is_translated(path):
    """What is no docstring, no log entry, no pattern and no key was written for a person."""
    tree, known = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node) is not None:
            known.add(node.body[0].value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in ("_", "translate", "logging"):
            known |= set(ast.walk(node))
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n not in known]
    words = [n for n in texts if re.search("[A-Za-z]{2,} [A-Za-z]{2,}", n.value) and not re.search("[|~]", n.value)]
    assert not [(n.lineno, n.value) for n in words if n.value not in WORDS]


@pytest.mark.parametrize("path", SLICER_SIDE, ids=lambda p: p.name)
def test_texts_given_to_widgets_and_nodes_are_translated(path):
    named = {"setText", "setToolTip", "setWindowTitle", "SetTitleText", "SetXAxisTitle", "SetYAxisTitle", "say", "_say"}
    named |= {"AddEmptySegment"}  # its first argument is an id
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in named:
            given = node.args[1:] if node.func.attr == "AddEmptySegment" else node.args
            literals = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            assert not [text for text in literals if re.search("[a-z]", text)], (path, node.lineno)


def test_a_machine_without_slicer_core_fails_in_ci_and_skips_elsewhere(tmp_path):
    test = tmp_path / "test_x.py"
    test.write_text(
        "import importlib.util\n"
        "import slicer_harness\n"
        "def test_x(monkeypatch):\n"
        "    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)\n"
        "    slicer_harness.require_slicer_core()\n",
        encoding="utf-8",
    )
    outcomes = []
    for ci in ("true", ""):
        environment = os.environ | {"CI": ci, "PYTHONPATH": f"{ROOT / 'Testing' / 'support'}"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        outcomes.append(done.stdout)
    assert "1 failed" in outcomes[0] and "1 skipped" in outcomes[1]
