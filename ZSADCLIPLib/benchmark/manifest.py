"""A row's manifest: everything that its numbers depend on."""

from __future__ import annotations

from pathlib import Path

from ..files.digests import code_version
from ..files.privacy import redact_all
from .cells import described
from .rowfolder import SCHEMA, read_json
from .specs import ReferenceSlices, RowSpec, row_settings

ORIENTATIONS = {
    "nose-up": "axial from inferior to superior, nose up, the patient's right on the left",
    "array": "axial from inferior to superior, rows and columns as stored",
}


def manifest_of(spec: RowSpec) -> dict:
    """Everything a row's numbers depend on; nothing that differs between two runs of the same settings."""
    backbone = method = training = None
    if spec.adapter is not None:
        from .maps import open_adapter

        model, adapter = open_adapter(spec.adapter)
        backbone = {**model.describe(), "weights_id": spec.backbone.weights_id}
        learned = sum(p.numel() for p in adapter.parameters())
        method = {"name": spec.method, "trainable_parameters": learned, **redact_all(adapter.describe())}
        method["adapted"] = adapter.adaptations(model)
        method["summed_layers"] = adapter.summed_layers  # a raw score is the scaled one times this
        training = adapter.provenance.get("training") if spec.training else None
        method["start"] = spec.start_label
    elif spec.cells is not None:
        backbone, method = described(spec.cells)
    return {
        "row": spec.row,
        "key": spec.key,
        "schema": SCHEMA,
        "code_version": code_version(),
        "split": spec.split,
        "test_data": spec.test_data,
        "backbone": backbone,
        "method": method,
        "training": training,
        "threshold_rule": spec.threshold.rule,
        "threshold_cases": list(spec.threshold.cases),
        "slices_every": spec.slices.every,
        "slice_orientation": ORIENTATIONS[spec.slices.orientation],
        "settings": row_settings(spec),
        **_reference_of(spec),
    }


def _reference_of(spec: RowSpec) -> dict:
    """The normal slices of a few-shot row: of its memory bank, or of the support that it trains on."""
    bank, trained = spec.adapter and spec.adapter.reference, spec.training and spec.training.slices
    slices = bank or (trained if isinstance(trained, ReferenceSlices) else None)
    if slices is None:
        return {}
    drawn = read_json(Path(slices.folder) / "info.json")["drawn"][: slices.count]
    return {"reference": {"kshot": len(drawn), "slices": drawn}}
