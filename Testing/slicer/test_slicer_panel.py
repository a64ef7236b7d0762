"""The upper part of the panel on stand-in widgets: inputs, models, menus, every control."""

import json
from pathlib import Path

import pytest
from slicer_cases import head
from slicer_harness import grab, make_panel, spin

from ZSADCLIPLib.fields import from_dict
from ZSADCLIPLib.jobs.detect import Detect

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


def test_apply_needs_a_volume_and_says_so(panel):
    assert not panel.ui.applyButton.enabled
    assert "No input volume" in panel.ui.applyButton.toolTip
    node = head()
    panel._parameters.inputVolume = node
    assert panel.ui.applyButton.enabled and panel.ui.inputSelector.currentNode() is node
    assert "skull-stripped" in panel.ui.inputNotesLabel.text


def test_menus_come_from_the_registries(panel):
    from ZSADCLIPLib.adapters import METHODS
    from ZSADCLIPLib.backbones import BACKBONES
    from ZSADCLIPLib.neighbours import BANK

    ui = panel.ui
    assert {ui.methodSelector.itemData(n) for n in range(ui.methodSelector.count)} == {*METHODS, BANK}
    assert {ui.modelSelector.itemData(n) for n in range(ui.modelSelector.count)} == set(BACKBONES)
    assert panel._parameters.model == "mini-mri" and ui.modelSelector.currentIndex == 0


def test_choosing_in_menus_changes_the_parameters_and_back(panel):
    ui, p = panel.ui, panel._parameters
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("anovl"))
    assert p.method == "anovl"
    p.method = "adaclip"
    assert ui.methodSelector.currentData == "adaclip"
    ui.promptSelector.setCurrentIndex(ui.promptSelector.findData("medical-mri"))
    assert p.prompts == "medical-mri"
    ui.promptSelector.setEditText("/data/own.json")
    assert p.prompts == "/data/own.json"
    p.prompts = "vand"
    assert ui.promptSelector.currentText == "vand"


@pytest.mark.parametrize("widget, attribute, name, value", [
    ("objectNameEdit", "text", "objectName", "liver"),
    ("overlayCheckBox", "checked", "overlay", False),
    ("outlineCheckBox", "checked", "outline", False),
    ("legendCheckBox", "checked", "legend", False),
    ("surfaceCheckBox", "checked", "surface", True),
    ("separateCheckBox", "checked", "separate", True),
    ("chosenOnlyCheckBox", "checked", "chosenOnly", True),
    ("opacitySlider", "value", "opacity", 0.25),
    ("minimumSizeSpinBox", "value", "minimumSize", 120.0),
    ("minimumDepthSpinBox", "value", "minimumDepth", 5.0),
    ("axialCheckBox", "checked", "axial", True),
    ("coronalCheckBox", "checked", "coronal", True),
    ("sagittalCheckBox", "checked", "sagittal", True),
    ("smoothingSpinBox", "value", "smoothing", 2.0),
])  # fmt: skip
def test_controls_follow_parameters_both_ways(panel, widget, attribute, name, value):
    control, p = getattr(panel.ui, widget), panel._parameters
    before = getattr(p, name)
    assert before != value
    setattr(control, attribute, value)
    assert getattr(p, name) == value
    setattr(p, name, before)
    assert getattr(control, attribute) == before


def test_a_missing_model_offers_its_download(panel, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.engine import choices

    head()
    panel.initializeParameterNode()
    missing = next(m for m in panel.models.models if m.state == "missing")
    panel._parameters.model = missing.key
    assert not panel.ui.downloadButton.isHidden() and not panel.ui.applyButton.enabled
    text = choices.downloadText(missing)
    assert "MB" in text and "Licence" in text and "SHA-256" in text
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: asked.append(a[0]) or True)
    panel.ui.downloadButton.click()
    spin(lambda: panel.models.fetch is None)
    assert asked == [text]
    assert "offline" in panel.ui.statusLabel.text  # HF_HUB_OFFLINE=1 in tests


def test_health_report_names_packages_and_models(panel):
    panel.ui.healthButton.click()
    text = panel.ui.healthText.plainText
    assert "torch>=2.6" in text and "Mini ViT" in text and "PMC-CLIP" in text
    assert not panel.ui.healthText.isHidden()


def test_research_notice_is_visible(panel):
    assert not panel.ui.researchLabel.isHidden()
    assert "not for diagnosis" in panel.ui.researchLabel.text


@pytest.mark.parametrize("style", ["light", "dark"])
def test_panel_fits_300_pixels(done, style):
    import qt

    dark = qt.QPalette(qt.QColor(50, 50, 50)) if style == "dark" else None
    application = qt.QApplication.instance()
    plain = application.palette()
    application.setStyle("Fusion")
    if dark:
        for role, colour in ((qt.QPalette.Window, 50), (qt.QPalette.Base, 35), (qt.QPalette.AlternateBase, 45),
                             (qt.QPalette.Button, 60), (qt.QPalette.Text, 220), (qt.QPalette.WindowText, 220),
                             (qt.QPalette.ButtonText, 220)):  # fmt: skip
            dark.setColor(role, qt.QColor(colour, colour, colour))
        application.setPalette(dark)
    try:
        done.run.say("Done in 3 s.")
        grab(done, f"panel-narrow-{style}", 300)
        assert done.parent.minimumSizeHint().width() <= 300
    finally:
        application.setPalette(plain)


def test_a_method_without_an_adapter_says_what_to_do(panel, tmp_path, monkeypatch):
    import qt

    head()
    panel.initializeParameterNode()
    ui = panel.ui
    assert ui.applyButton.enabled
    ui.modelSelector.setCurrentIndex(ui.modelSelector.findData("mini-rn"))
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("adaclip"))
    assert not ui.applyButton.enabled and "has to be trained" in ui.applyButton.toolTip
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *a: str(tmp_path / "own.pth")))
    ui.checkpointFileButton.click()
    assert panel._parameters.checkpoint == str(tmp_path / "own.pth") == ui.checkpointSelector.currentData
    assert ui.applyButton.enabled
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("anovl"))
    assert panel._parameters.checkpoint == "" and ui.applyButton.enabled  # needs no training


def test_adapters_in_the_list_fit_the_model(panel):
    ui = panel.ui
    assert any("vand-mini" in ui.checkpointSelector.itemText(n) for n in range(ui.checkpointSelector.count))
    ui.modelSelector.setCurrentIndex(ui.modelSelector.findData("ViT-L-14-336"))
    assert ui.checkpointSelector.count == 1


def test_local_files_of_a_missing_model(panel, tmp_path, monkeypatch):
    import qt

    head()
    panel.initializeParameterNode()
    panel._parameters.model = "ViT-L-14-336"
    assert not panel.ui.localFilesButton.isHidden() and "licence" in panel.ui.modelNotesLabel.text
    wrong = tmp_path / "ViT-L-14-336px.pt"
    wrong.write_bytes(b"no weights")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileNames", staticmethod(lambda *a: [str(wrong)]))
    panel.ui.localFilesButton.click()
    spin(lambda: panel.models.fetch is None)
    assert "sha256" in panel.ui.statusLabel.text and panel.models.model().state == "missing"


def test_segments_are_offered_for_a_brain_mask(panel):
    import slicer

    ui, node = panel.ui, head()
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mask")
    for name in ("brain", "tumour"):
        mask.GetSegmentation().AddEmptySegment(name, name)
    panel._parameters.inputVolume = node
    assert ui.brainSegmentSelector.isHidden()
    panel._parameters.brainMask = mask
    assert not ui.brainSegmentSelector.isHidden() and ui.brainSegmentSelector.count == 3
    ui.brainSegmentSelector.setCurrentIndex(1)
    assert panel._parameters.brainSegment == "brain"


def test_public_samples_come_from_slicers_own_source(panel, monkeypatch):
    import sys
    import types

    asked = []
    module = types.ModuleType("SampleData")
    module.downloadSample = lambda name: asked.append(name) or head(name=name)
    monkeypatch.setitem(sys.modules, "SampleData", module)
    panel.ui.tumor1Button.click()
    panel.ui.tumor2Button.click()
    assert asked == ["MRBrainTumor1", "MRBrainTumor2"]
    assert panel._parameters.inputVolume.GetName() == "MRBrainTumor2" and panel.ui.applyButton.enabled


@pytest.mark.parametrize("widget, name, label, key", [
    ("planeSelector", "plane", "coronal", "coronal"),
    ("fuseSelector", "fuse", "mean of logits", "logit"),
    ("deviceSelector", "device", "CUDA (NVIDIA graphics card)", "cuda"),
    ("deviceSelector", "device", "CPU", "cpu"),
    ("batchSelector", "batchSize", "4", "4"),
    ("colorSelector", "colors", "Viridis", "Viridis"),
])  # fmt: skip
def test_menus_of_fixed_choices_show_labels_and_set_keys(panel, widget, name, label, key):
    menu, p = getattr(panel.ui, widget), panel._parameters
    before, shown = getattr(p, name), menu.currentText
    menu.setCurrentIndex(menu.findText(label))
    assert getattr(p, name) == key != before
    setattr(p, name, before)
    assert menu.currentText == shown


@pytest.mark.parametrize("widget, key", [
    ("weightsFolderEdit", "WeightsFolder"), ("wheelsFolderEdit", "WheelsFolder"), ("pythonEdit", "Python"),
])  # fmt: skip
def test_folders_are_kept_for_the_next_session(slicer_env, panel, monkeypatch, widget, key):
    from ZSADCLIPSlicer.panels.preferences import setSetting, setting

    looked = []
    monkeypatch.setattr(panel.inputs, "_foldersChanged", lambda: looked.append(setting(key)))
    try:
        for text in ("/da", "/data", "/data/Ünï côde"):
            getattr(panel.ui, widget).currentPath = text
        assert setting(key) == "/data/Ünï côde" and not looked  # folders are read when the typing rests
        spin(lambda: looked)
        assert looked == ["/data/Ünï côde"]
        assert getattr(make_panel(slicer_env).ui, widget).currentPath == "/data/Ünï côde"
    finally:
        setSetting(key, "")


def test_weights_in_a_named_folder_are_found(panel, tmp_path):
    from ZSADCLIPSlicer.panels.preferences import setSetting

    from ZSADCLIPLib.backbones import BACKBONES

    (tmp_path / "ViT-L-14-336").mkdir()
    for name in BACKBONES["ViT-L-14-336"].files:
        (tmp_path / "ViT-L-14-336" / name).write_bytes(b"weights")
    panel._parameters.model = "ViT-L-14-336"
    assert panel.models.model().state == "missing"
    try:
        panel.ui.weightsFolderEdit.currentPath = str(tmp_path)
        spin(lambda: panel.models.model().state == "installed")
        assert panel.ui.downloadButton.isHidden()
    finally:
        setSetting("WeightsFolder", "")


def test_install_asks_and_takes_the_folder_of_wheels(panel, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.engine import install
    from ZSADCLIPSlicer.panels.preferences import setSetting

    absent, taken = [install.Package("torch>=2.6", "", False)], []
    monkeypatch.setattr(install, "missing", lambda: absent)
    monkeypatch.setattr(install, "install", lambda wheels, again: (taken.append(wheels), absent.clear()))
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, title: "torch>=2.6" in text)
    try:
        panel.ui.wheelsFolderEdit.currentPath = "/media/wheels"
        panel.ui.installButton.click()
    finally:
        setSetting("WheelsFolder", "")
    assert taken == ["/media/wheels"] and not panel.ui.healthText.isHidden()


def test_the_health_check_asks_another_interpreter(slicer_env, tmp_path, monkeypatch):
    import sys

    from ZSADCLIPSlicer.engine import health

    text = health.report(sys.executable)
    assert "OK  nibabel: " in text and sys.version.split()[0] in text
    monkeypatch.setattr(health.healthprobe, "facts", lambda names: pytest.fail("asked Slicer's own"))
    assert "/no/python does not answer" in health.report("/no/python")
    python = tmp_path / "python"
    for answer, expected in (
        ("sleep 30", "does not answer"),
        ("""echo '{"python": "3.12.1", "versions": {"torch": "2.5"}, "cuda": ""}'""", "2.5 is too old"),
    ):
        python.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
        python.chmod(0o755)
        monkeypatch.setattr(health, "SECONDS", 1)
        monkeypatch.setattr(health.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
        text = health.report(str(python))
        assert expected in text
    assert "CPU only, although" in text and "3.12.1" in text and "pip of that interpreter" in text


def test_the_probe_knows_what_torch_was_built_for(slicer_env, tmp_path, monkeypatch):
    from ZSADCLIPSlicer.engine import healthprobe

    for folder in ("torch", "torch-9.9.dist-info"):
        (tmp_path / folder).mkdir()
    (tmp_path / "torch-9.9.dist-info" / "METADATA").write_text("Name: torch\nVersion: 9.9\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for line, expected in (("cuda: Optional[str] = '12.4'", "12.4"), ("cuda: Optional[str] = None", "")):
        version = tmp_path / "torch" / "version.py"
        version.write_text(f"debug = False\n{line}\nhip: Optional[str] = None\n", encoding="utf-8")
        found = healthprobe.facts(["torch", "wonder"])
        assert found["cuda"] == expected and found["versions"] == {"torch": "9.9"}
    version.unlink()
    assert healthprobe.facts([])["cuda"] is None


def job_of(settings):
    """The engine's job, as the child process reads it."""
    job = json.loads(json.dumps(settings.job(Path("in.nii"), None, Path("out"))))
    assert job.pop("job") == "detect"
    return from_dict(Detect, job)


def test_planes_and_smoothing_reach_the_engine_and_fusion_is_for_several(panel):
    ui, p, logic = panel.ui, panel._parameters, panel.logic
    settings = logic.settings(p)
    assert (settings.planes, settings.fuse, settings.smooth_mm, settings.min_depth_mm) == ((), "geometric", None, 3.0)
    assert ui.smoothingSpinBox.text == "automatic" and not ui.fuseSelector.enabled and ui.planeSelector.enabled
    ui.sagittalCheckBox.checked = True
    assert not ui.fuseSelector.enabled and not ui.planeSelector.enabled
    ui.axialCheckBox.checked = True
    assert ui.fuseSelector.enabled
    ui.smoothingSpinBox.value = 0.0
    settings = logic.settings(p)
    assert settings.planes == ("axial", "sagittal") and settings.smooth_mm == 0.0
    job = job_of(settings)
    assert (job.planes, job.fuse, job.smooth_mm) == (("axial", "sagittal"), "geometric", 0.0)


def test_a_bank_is_chosen_where_adapters_are_and_says_how_volumes_are_looked_at(panel, tmp_path, monkeypatch):
    import qt

    head()
    panel.initializeParameterNode()
    ui, p = panel.ui, panel._parameters
    p.coronal, p.objectName = True, "brain"
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("bank"))
    assert not ui.applyButton.enabled and "choose its file" in ui.applyButton.toolTip
    assert ui.inputsLayoutLabel8.text == "Bank:" and not ui.modelSelector.enabled and not ui.coronalCheckBox.enabled
    asked = []
    monkeypatch.setattr(
        qt.QFileDialog, "getOpenFileName", staticmethod(lambda *a: asked.append(a) or str(tmp_path / "h.bank"))
    )
    ui.checkpointFileButton.click()
    assert "*.bank" in asked[0][3] and ui.applyButton.enabled and "healthy volumes" in ui.modelNotesLabel.text
    settings = panel.logic.settings(p)
    assert (settings.method, settings.bank, settings.checkpoint) == ("bank", str(tmp_path / "h.bank"), None)
    assert (settings.planes, settings.object_name, settings.backbone) == ((), None, "auto")
    assert job_of(settings).bank == str(tmp_path / "h.bank")
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("vand"))
    assert ui.inputsLayoutLabel8.text == "Adapter:" and ui.modelSelector.enabled and p.checkpoint == ""


def test_banks_of_the_weights_folder_are_listed(panel, tmp_path):
    from ZSADCLIPSlicer.engine import choices

    (tmp_path / "healthy.bank").write_bytes(b"")
    assert [c.key for c in choices.checkpoints("bank", "mini", str(tmp_path))] == ["", str(tmp_path / "healthy.bank")]
    assert [c.key for c in choices.checkpoints("bank", "mini")] == [""]


def test_the_panel_says_what_the_chosen_adapter_was_made_for(panel):
    ui = panel.ui
    panel.initializeParameterNode()
    assert "any contrast" in ui.modelNotesLabel.text and "synthetic" in ui.modelNotesLabel.text
    assert not ui.modelNotesLabel.isHidden()
    ui.modelSelector.setCurrentIndex(ui.modelSelector.findData("mini"))
    assert "T2w" in ui.modelNotesLabel.text
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("winclip"))
    assert "Not trained" in ui.modelNotesLabel.text
