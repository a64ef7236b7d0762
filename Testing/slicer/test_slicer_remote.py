"""A run that a server does: the panel's code, the genuine client and server, and the fake engine on the server."""

import sys

import numpy as np
import pytest
from serve_cases import fake as served_by
from serve_cases import served, until
from slicer_cases import fake, head
from slicer_harness import PICTURES, grab, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]

NAMES = ("Engine", "RemoteAddress", "RemoteTokenFile", "RemoteFingerprint", "RemoteAgreed")


@pytest.fixture
def server(tmp_path):
    with served(tmp_path / "serve", tls=True, gone_s=2.0) as here:
        yield here


@pytest.fixture
def asked(slicer_env, monkeypatch):
    """The questions that were answered with yes; settings of earlier tests are forgotten."""
    import slicer

    forget = lambda: [slicer.app.userSettings().setValue(f"ZSADCLIP/{name}", "") for name in NAMES]  # noqa: E731
    forget()
    questions = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, *_: questions.append(text) or True)
    yield questions
    forget()


@pytest.fixture
def remote(asked, server, panel, monkeypatch):
    """A panel that hands its runs to the server, on a computer without the engine's packages."""
    monkeypatch.setattr(panel.logic, "ready", lambda: False)
    head()
    panel.initializeParameterNode()
    choose(panel, server)
    return panel


def choose(panel, server):
    ui = panel.ui
    ui.engineSelector.setCurrentIndex(ui.engineSelector.findData("remote"))
    ui.engineAddressEdit.text = f"https://localhost:{server.port}"
    ui.engineTokenEdit.currentPath = str(server.tokens)
    ui.engineFingerprintEdit.text = server.fingerprint


def run(panel):
    panel.ui.applyButton.click()
    spin(lambda: not panel.run.running)


def test_the_result_of_a_server_is_that_of_this_computer(remote, server, logic):
    import slicer

    node = remote._parameters.inputVolume
    remote.ui.batchSelector.setCurrentIndex(1)
    run(remote)
    result = remote.results.result
    assert result is not None, remote.ui.statusLabel.text
    local = logic.process(node, command=fake())
    for one in ("map", "findings", "segmentation"):
        assert getattr(result, one) is not getattr(local, one)
    arrays = [slicer.util.arrayFromVolume(each.map) for each in (result, local)]
    assert np.array_equal(*arrays) and arrays[0].max() > 0.9
    assert (result.volumeScore, result.threshold) == (local.volumeScore, local.threshold)
    assert [result.findings.GetNumberOfRows()] == [local.findings.GetNumberOfRows()]
    until(lambda: not server.left())
    assert remote.ui.statusLabel.text.startswith("Done in")


def test_the_user_is_asked_once_where_images_go(remote, server, asked, monkeypatch):
    run(remote)
    run(remote)
    assert len(asked) == 1 and f"https://localhost:{server.port}" in asked[0] and "no names" in asked[0]
    import slicer

    remote.ui.engineAddressEdit.text = f"https://127.0.0.1:{server.port}"
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, *_: asked.append(text) and False)
    remote.ui.applyButton.click()
    assert len(asked) == 2 and not remote.run.running and server.queue.status()["done"] == 2


def test_neither_token_nor_server_enter_the_scene(remote, server, tmp_path):
    import slicer

    run(remote)
    assert remote.results.result is not None
    path = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Commit()
    text = path.read_text(encoding="utf-8", errors="replace")
    assert "ZSADCLIP" in text
    assert not [
        word for word in (server.token, str(server.port), str(server.tokens), server.fingerprint) if word in text
    ]
    settings = [str(slicer.app.userSettings().value(f"ZSADCLIP/{name}")) for name in NAMES]
    assert str(server.tokens) in settings and server.token not in "".join(settings)
    assert not [line for line in remote.run.detection.log if server.token in line]


def test_a_brain_mask_and_names_with_patients(remote, server, tmp_path, monkeypatch):
    """The mask is sent, too; of the volume's name and the token nothing is in what the child gets or sends."""
    import slicer

    sent, write = [], server.queue.take

    def take(job, body, length):
        write(job, body, length)
        sent.append(
            [(job.folder / name).read_bytes() for name in ("input.nii", "brain.nii") if (job.folder / name).exists()]
        )

    monkeypatch.setattr(server.queue, "take", take)
    node = remote._parameters.inputVolume
    node.SetName("DOE^JOHN")
    mask = slicer.util.addVolumeFromArray((slicer.util.arrayFromVolume(node) > 0).astype(np.uint8), None, "DOE mask",
                                          "vtkMRMLLabelMapVolumeNode")  # fmt: skip
    mask.CopyOrientation(node)
    remote._parameters.brainMask = mask
    server.queue._command = served_by("slow")
    remote.ui.applyButton.click()
    spin(lambda: sent)
    assert remote.run.running
    remote.run.abort()  # kills the child; the server sees that its call has ended
    assert len(sent[0]) == 2 and not [data for data in sent[0] if b"DOE" in data or b"JOHN" in data]
    assert [data[:4] for data in sent[0]] == [b"\x5c\x01\0\0"] * 2
    until(lambda: not server.left())


def test_cancel_reaches_the_server(remote, server):
    server.queue._command = served_by("slow")
    remote.ui.applyButton.click()
    spin(lambda: remote.ui.progressBar.value > 0 and any(job.engine for job in server.queue._jobs.values()))
    assert remote.ui.applyButton.text == "Cancel"
    remote.run.detection._child.grace = 10_000.0  # it is not ended before it can answer, however busy the machine is
    remote.ui.applyButton.click()
    spin(lambda: not remote.run.running)
    assert remote.ui.statusLabel.text == "Cancelled. Nothing was changed."
    until(lambda: not server.left() and server.queue.status()["cancelled"] == 1)


@pytest.mark.parametrize("behaviour, words", [
    ("crash", "no module named wonder"), ("memory-always", "out of memory"), ("doubtful", "2 m long"),
])  # fmt: skip
def test_what_fails_on_the_server_is_told_in_the_panel(remote, server, behaviour, words):
    server.queue._command = served_by(behaviour)
    run(remote)
    assert words in remote.ui.statusLabel.text and remote.results.result is None
    if behaviour == "doubtful":  # and the way on works
        remote.ui.allowButton.click()
        spin(lambda: not remote.run.running)
        assert remote.results.result is not None


def test_a_wrong_fingerprint_a_missing_token_file_and_no_server_are_a_sentence_each(remote, tmp_path):
    remote.ui.engineFingerprintEdit.text = "00" * 32
    run(remote)
    assert "Nothing was sent" in remote.ui.statusLabel.text
    remote.ui.engineTokenEdit.currentPath = str(tmp_path / "none")
    run(remote)
    assert "cannot be read: No such file" in remote.ui.statusLabel.text
    remote.ui.engineTestButton.click()
    assert remote.ui.engineNotesLabel.text.startswith("Error: the token file")


def test_what_the_server_cannot_follow_keeps_apply_off_and_says_why(remote):
    from ZSADCLIPSlicer.engine import choices

    ui, p = remote.ui, remote._parameters

    def reason():
        remote.updateApply()
        return "" if ui.applyButton.enabled else ui.applyButton.toolTip

    assert reason() == ""
    p.checkpoint = "/data/own.safetensors"
    assert "checkpoint is /data/own.safetensors, which only this computer" in reason()
    p.checkpoint = ""
    p.prompts = "/data/own.json"
    assert "prompts is '/data/own.json'" in reason()
    p.prompts = next(each.key for each in choices.promptSets() if each.label == "medical-mri")
    assert reason() == ""
    p.method = "bank"
    assert "healthy bank" in reason()
    p.method = "vand"
    p.model = "PMC-CLIP"  # not on this computer, perhaps on the server
    assert reason() == ""
    run(remote)
    assert "the server has no model PMC-CLIP; choose mini-mri" in ui.statusLabel.text
    ui.engineAddressEdit.text = "http://gpu.example.org"
    assert "http:// is for this computer alone" in reason()
    ui.engineAddressEdit.text = ""
    assert "Give the address" in reason()
    ui.engineSelector.setCurrentIndex(0)
    assert "not on this computer" in reason()


def test_settings_of_scripts(slicer_env):
    from ZSADCLIPSlicer.engine.remote import remoteSettings
    from ZSADCLIPSlicer.engine.settings import RunSettings

    from ZSADCLIPLib.errors import ZSADCLIPError

    assert remoteSettings(RunSettings(threshold="0.25", planes=("axial",), weights_dir="/models")).threshold == "0.25"
    for wrong in ({"image_size": 518}, {"seed": 3}, {"weights": "x"}, {"precision": "float16"}, {"threshold": "high"}):
        with pytest.raises(ZSADCLIPError, match=next(iter(wrong))):
            remoteSettings(RunSettings(**wrong))


def test_the_child_of_a_remote_run_needs_no_package(remote, server, monkeypatch):
    """The client runs in Slicer's Python, whatever interpreter is named for local runs, and without torch."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('nibabel', 'torch', 'torchvision', 'open_clip', 'safetensors', 'sklearn'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from ZSADCLIPLib.cli import main\n"
        "sys.exit(main(['run', sys.argv[1]]))"
    )
    start = remote.logic.start
    monkeypatch.setattr(remote.logic, "start", lambda *a, **k: start(
        *a, **{**k, "command": lambda job: [sys.executable, "-c", code, str(job)]}))  # fmt: skip
    run(remote)
    assert remote.results.result is not None, remote.ui.statusLabel.text + "\n".join(remote.run.detection.log)


@pytest.mark.parametrize("width", [300, 420])
def test_the_panel_with_a_server(remote, server, width):
    ui = remote.ui
    ui.engineTestButton.click()
    assert "answers. Models: mini-mri" in ui.engineNotesLabel.text and "Jobs now: 0" in ui.engineNotesLabel.text
    run(remote)
    ui.advancedSection.collapsed = False
    grab(remote, f"panel-remote-{width}", width)
    assert (PICTURES / f"panel-remote-{width}.png").stat().st_size > 0
    shown = (
        ui.engineAddressEdit,
        ui.engineTokenEdit,
        ui.engineFingerprintEdit,
        ui.engineTestButton,
        ui.engineNotesLabel,
    )
    assert not [widget.objectName for widget in shown if widget.isHidden()]
    remote.parent.show()
    assert not [w.objectName for w in shown if w.mapTo(remote.parent, w.rect.bottomRight()).x() > width]
    remote.parent.hide()
    ui.engineSelector.setCurrentIndex(0)
    assert not [widget.objectName for widget in shown if not widget.isHidden()]


def test_settings_come_back_in_a_new_panel(remote, server, slicer_env):
    from slicer_harness import make_panel

    again = make_panel(slicer_env)
    assert again.ui.engineSelector.currentData == "remote" and again.engine.remote == remote.engine.remote
    assert again.ui.engineAddressEdit.text == remote.ui.engineAddressEdit.text != ""
