"""What a detection shows of itself."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from review_run import SHAPE, ByHand, image_and_map

from ZSADCLIPLib.errors import DependencyError, InputError
from ZSADCLIPLib.notes import Note


@pytest.fixture(scope="module")
def detection():
    volume, map = image_and_map()
    return ByHand(map.array).detect(volume)


def test_a_notebook_shows_picture_and_findings(detection):
    said = replace(detection, notes=(Note("voxels", "<b>odd</b>"),), threshold_rule="<i>")._repr_html_()
    assert said.count("<tr>") == 4 and "data:image/png;base64," in said and "Research use only" in said
    assert "&lt;b&gt;odd" in said and "<i>" not in said and "<b>odd" not in said
    assert "0.51</td>" in said
    assert "No finding" in replace(detection, findings=[])._repr_html_()


def test_plot_gives_a_figure_to_save(detection, tmp_path):
    figure = detection.plot(slices=[10, 20], title="two")
    assert len(figure.axes) == 3 + 1
    assert [text.get_text() for text in figure.axes[0].texts] == ["slice 10", "R", "L", "slice 20", "R", "L"]
    figure.savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InputError, match="does not fit"):
        detection.plot(truth=np.zeros((SHAPE[0] + 1, *SHAPE[1:]), bool))


def test_view_needs_a_package_and_names_it(detection, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(DependencyError, match="pip install ipyniivue"):
        detection.view()


def test_view_hands_over_both_volumes(detection, monkeypatch):
    class NiiVue:
        def __init__(self, **options):
            self.options = options

        def load_volumes(self, volumes):
            self.volumes = volumes

    module = SimpleNamespace(NiiVue=NiiVue, ShowRender=SimpleNamespace(NEVER=0))
    monkeypatch.setitem(sys.modules, "ipyniivue", module)
    image, map = detection.view(threshold=0.6).volumes
    assert map["cal_min"] == 0.6 and detection.view().volumes[1]["cal_min"] == detection.threshold
    back = nibabel.Nifti1Image.from_bytes(map["data"])
    assert np.array_equal(back.get_fdata(), detection.map.array) and np.allclose(back.affine, detection.map.affine)
    grey = nibabel.Nifti1Image.from_bytes(image["data"]).get_fdata()
    assert np.array_equal(detection.stack.arrange(grey), detection.image)
