"""Dependencies and sample data: what is asked, what is pinned, what is registered; nothing is installed here."""

import os
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest

pytest_plugins = ["slicer_fixtures"]


@pytest.fixture
def install(slicer_env):
    from ZSADCLIPSlicer.engine import install

    return install


@pytest.fixture
def versions(install, monkeypatch):
    """Pretend that exactly these packages are installed."""

    def pretend(**installed):
        def version(name):
            if name.replace("-", "_") not in installed:
                raise install.importlib.metadata.PackageNotFoundError(name)
            return installed[name.replace("-", "_")]

        monkeypatch.setattr(install.importlib.metadata, "version", version)

    return pretend


def test_missing_and_old_packages_are_found_without_importing_them(install, versions):
    versions(torch="2.5.1", torchvision="0.20", nibabel="5.2", scipy="1.11")
    names = [package.name for package in install.missing()]
    assert "torch" in names and "open_clip_torch" in names
    assert "nibabel" not in names and "torchvision" not in names
    assert "2.5.1" in next(p.installed for p in install.check() if p.name == "torch")


def test_local_versions_compare_by_number(install, versions):
    versions(torch="2.10.0+cu128")
    assert next(p for p in install.check() if p.name == "torch").good


def test_packages_of_slicer_are_pinned(install, versions):
    versions(numpy="2.0.1", requests="2.31", SimpleITK="2.4", torch="2.5.1", scipy="1.13")
    pins = install.pins()
    assert {"numpy==2.0.1", "requests==2.31", "SimpleITK==2.4", "scipy==1.13"} <= set(pins)
    assert not any(pin.startswith("torch==") for pin in pins)  # too old: it must be allowed to change


def test_torch_comes_through_the_pytorch_extension(install, versions, monkeypatch):
    versions(numpy="2.0", torchvision="0.21")
    calls, pinned = [], []

    class Logic:
        def installTorch(self, **options):
            calls.append(("torch", options["torchVersionRequirement"]))
            assert os.environ["PIP_CONSTRAINT"].startswith("file:///") and " " not in os.environ["PIP_CONSTRAINT"]
            path = url2pathname(urlsplit(os.environ["PIP_CONSTRAINT"]).path)
            pinned.append(Path(path).read_text(encoding="utf-8"))
            return object()

    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = Logic
    extension.__spec__ = ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    monkeypatch.setattr(
        install, "pip", lambda names, constraints, wheels: calls.append((names, constraints.read_text("utf-8")))
    )
    install.install()
    assert calls[0] == ("torch", ">=2.6") and "numpy==2.0" in pinned[0] and "PIP_CONSTRAINT" not in os.environ
    names, constraints = calls[1]
    assert "open_clip_torch>=3.3" in names and not any(n.startswith("torch>") for n in names)
    assert "numpy==2.0" in constraints


@pytest.mark.parametrize("fails", [lambda: None, lambda: 1 / 0], ids=["brings nothing", "raises"])
def test_where_the_pytorch_extension_fails_torch_comes_through_pip(install, versions, monkeypatch, fails):
    versions(numpy="2.0", torchvision="0.21")
    calls, extension = [], types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = type("Logic", (), {"installTorch": lambda self, **options: fails()})
    extension.__spec__ = ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    monkeypatch.setattr(install, "pip", lambda names, constraints, wheels: calls.append(names))
    install.install()
    assert calls[0] == ["torch>=2.6"] and "open_clip_torch>=3.3" in calls[1]
    assert "PIP_CONSTRAINT" not in os.environ


def test_packages_are_installed_once_more_but_for_what_slicer_builds_on(panel, install, versions, monkeypatch):
    import slicer

    versions(numpy="2.0", torch="2.8", torchvision="0.23+cu128", scipy="1.13", nibabel="5.3")
    calls, asked = [], []
    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: calls.append(arguments), raising=False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: asked.append(a))
    panel.ui.reinstallButton.click()
    assert asked and not calls
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: True)
    monkeypatch.setattr(install, "pip", lambda names, constraints, wheels: calls.append(names))
    panel.ui.reinstallButton.click()
    assert calls[0][:2] == ["--force-reinstall", "--no-deps"]
    assert {"torch==2.8", "nibabel==5.3"} == set(calls[0][2:])
    assert "open_clip_torch>=3.3" in calls[1]


def test_downloaded_models_are_deleted_after_asking(panel, tmp_path, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.panels.preferences import setSetting

    from ZSADCLIPLib.backbones.registry import BACKBONES

    name, info = next((n, i) for n, i in BACKBONES.items() if i.files)
    model = tmp_path / name / next(iter(info.files))
    model.parent.mkdir()
    model.write_bytes(b"weights")
    (tmp_path / "mine.pt").write_bytes(b"mine")
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, title: asked.append(text))
    setSetting("WeightsFolder", str(tmp_path))
    try:
        panel.ui.deleteModelsButton.click()
        assert str(model) in asked[0] and "mine" not in asked[0] and model.is_file()
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: True)
        panel.ui.deleteModelsButton.click()
        assert not model.parent.exists() and (tmp_path / "mine.pt").is_file()
        panel.ui.deleteModelsButton.click()
        assert "No model was downloaded" in panel.ui.statusLabel.text
    finally:
        setSetting("WeightsFolder", "")


def test_newer_slicer_installs_with_its_own_packaging(install, versions, monkeypatch):
    import slicer

    versions(numpy="2.0", torch="2.8", torchvision="0.23")
    calls = []
    packaging = types.ModuleType("slicer.packaging")
    packaging.__spec__ = ModuleSpec("slicer.packaging", None)
    packaging.pip_install = lambda names, constraints, requester: calls.append((names, constraints.read_text("utf-8")))
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    install.install()
    ((names, constraints),) = calls
    assert "open_clip_torch>=3.3" in names and "torch==2.8" in constraints


def test_a_folder_of_wheels_works_without_a_network(install, versions, monkeypatch):
    import slicer

    versions(numpy="2.0")
    calls = []
    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: calls.append(arguments), raising=False)
    install.install(wheels="/media/Ünï côde/wheels")
    assert [c[0].split(">")[0] for c in calls] == ["torch", "open_clip_torch"]
    for arguments in calls:
        assert arguments[arguments.index("--find-links") + 1] == "/media/Ünï côde/wheels" and "--no-index" in arguments


def test_nothing_is_installed_when_the_user_declines(panel, install, versions, monkeypatch):
    import slicer
    from slicer_cases import head

    versions(numpy="2.0")
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, title: asked.append(text))
    monkeypatch.setattr(install, "install", lambda *a: pytest.fail("installed without consent"))
    head()
    panel.initializeParameterNode()
    panel.ui.applyButton.click()
    assert len(asked) == 1 and "torch>=2.6" in asked[0] and "not replaced" in asked[0]
    assert not panel.run.running and panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"


def test_sample_data_is_registered_and_made_locally(slicer_env, monkeypatch):
    import slicer

    sources = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(
            category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
            thumbnailFileName=None, loadFileType=None, loadFiles=None, loadFileProperties=None, checksums=None,
        ):  # fmt: skip
            """The arguments of Slicer 5.10: any other one is a TypeError."""
            sources.append(dict(locals()))

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    slicer.app.emit("startupCompleted()")
    (source,) = sources
    assert Path(source["thumbnailFileName"]).is_file()
    lengths = {len(source[name]) for name in ("uris", "fileNames", "nodeNames")}
    assert lengths == {1}
    (node,) = source["customDownloader"](types.SimpleNamespace(nodeNames=["made here"]))
    array = slicer.util.arrayFromVolume(node)
    assert node.GetName() == "made here" and array.shape == (155, 240, 240) and np.count_nonzero(array) > 1e6


def test_without_the_packages_the_self_test_tests_what_needs_none(slicer_env, monkeypatch):
    from ZSADCLIPSlicer import selftest

    ran, ready = [], selftest.ready
    monkeypatch.setattr(slicer_env.module.ZSADCLIPLogic, "ready", lambda self: False)
    monkeypatch.setattr(selftest, "ready", lambda case: (ready(case), ran.append(case)))
    slicer_env.module.ZSADCLIPTest().runTest()
    assert len(ran) == 1


def test_the_self_test_of_the_model_is_skipped_without_the_packages_not_passed(slicer_env, monkeypatch):
    import unittest

    monkeypatch.setattr(slicer_env.module.ZSADCLIPLogic, "ready", lambda self: False)
    with pytest.raises(unittest.SkipTest, match="not installed"):
        slicer_env.module.ZSADCLIPTest().test_synthetic_case()


def test_the_self_test_notices_a_result_that_cannot_be_judged(slicer_env, monkeypatch):
    from ZSADCLIPSlicer.scene.results import ResultNodes

    monkeypatch.setattr(slicer_env.module.ZSADCLIPLogic, "ready", lambda self: False)
    monkeypatch.setattr(ResultNodes, "accept", lambda self, rank, accepted: True)
    with pytest.raises(AssertionError):
        slicer_env.module.ZSADCLIPTest().runTest()
