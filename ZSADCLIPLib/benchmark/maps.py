"""Maps of one case for several adapters at once: those that share a backbone see its frozen features once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..adapters.checkpoint import load_adapter
from ..adapters.registry import METHODS
from ..detection.devices import default_batch_size
from ..detection.slice_maps import check_finite, fill_memory, slice_maps, zeroed_background
from ..errors import ZSADCLIPError
from ..evaluation.scales import scale_range, scaled
from ..progress import Progress, silent, sub_progress
from ..volumes.fusion import Fusion
from ..volumes.planes import usable_planes
from ..volumes.slicing import SliceStack
from ..volumes.smoothing import smoothed
from .cells import RANGE, drawn
from .models import open_backbone
from .settings import Score
from .slices import CaseSlices, open_slices, plane_slices
from .specs import AdapterSpec, RowSpec, from_json, to_json


@lru_cache(maxsize=8)
def _adapter(text: str, written: tuple[int, int] | None):
    spec = from_json(AdapterSpec, json.loads(text))
    backbone = open_backbone(spec.backbone)
    adapter = load_adapter(spec.source, backbone, {**spec.overrides, **METHODS[spec.method].load().map_only})
    if spec.reference:
        images = np.array(open_slices(spec.reference.folder)[0])
        fill_memory(adapter, backbone, images, default_batch_size(backbone, images.shape[-1]))
    return adapter


def open_adapter(spec: AdapterSpec):
    """(backbone, adapter) of a specification, ready to score, kept in this process."""
    written = None
    if Path(spec.source).is_file():  # a file may be written anew while the process lives
        written = (stat := Path(spec.source).stat()).st_mtime_ns, stat.st_size
    return open_backbone(spec.backbone), _adapter(json.dumps(to_json(spec), sort_keys=True), written)


def range_of(spec: RowSpec) -> tuple[float, float]:
    """Bounds of a row's scaled scores, which its sketches span."""
    if spec.cells is not None:
        return scale_range(spec.score.scale, RANGE)
    if spec.adapter is None:
        return 0.0, 1.0
    backbone, adapter = open_adapter(spec.adapter)
    return scale_range(spec.score.scale, adapter.score_range(backbone), adapter.summed_layers)


def row_maps(
    specs: Sequence[RowSpec], case: CaseSlices, progress: Progress = silent
) -> list[np.ndarray | ZSADCLIPError]:
    """The evaluated map float32 (N, R, C) of each row for a case: scored, brought back to its grid, blurred and scaled.

    Rows that compare volumes have their cells scored before.

    A row whose adapter cannot be opened or gives values that are not finite has its error there, and the others go on.
    """
    if specs[0].cells is not None:
        every = np.ones(case.image.shape, bool)
        raw = [_blurred(drawn(spec.cells, case), spec.score) for spec in specs]
        return [_evaluated(each, 1, case, every, specs[0].score) for each in raw]
    adapters, results = {}, {}
    for spec in specs:
        try:
            backbone, adapters[spec.row] = open_adapter(spec.adapter)
        except ZSADCLIPError as error:
            results[spec.row] = error
    if adapters:
        raw, seen = _raw_maps(specs[0], backbone, adapters, case, progress)
        for row, result in raw.items():
            failed = isinstance(result, Exception)
            results[row] = (
                result if failed else _evaluated(result, adapters[row].summed_layers, case, seen, specs[0].score)
            )
    return [results[spec.row] for spec in specs]


def _raw_maps(
    spec: RowSpec, backbone, adapters: dict, case: CaseSlices, progress: Progress
) -> tuple[dict[str, np.ndarray | ZSADCLIPError], np.ndarray]:
    """The maps float32 (N, R, C) of each row's adapter, of all planes that `spec` scores in; and where all of these see."""
    size, score = spec.slices.image_size, spec.score
    resample = next(iter(adapters.values())).resample
    planes, _ = usable_planes(case.volume, score.planes or ("axial",))
    fusions = {row: Fusion(score.fuse, *adapter.score_range(backbone)) for row, adapter in adapters.items()}
    seen = np.ones(case.image.shape, bool)
    failed, batch_size = {}, default_batch_size(backbone, size)
    for n, plane in enumerate(planes):
        part = sub_progress(progress, n / len(planes), (n + 1) / len(planes)) if len(planes) > 1 else progress
        if n == 0:
            image, fit, on_case, apart = case.image, case.fit(size, resample), np.asarray, case.spacing[2]
        else:
            stack, image, fit = plane_slices(case, plane, spec.slices, resample)
            on_case, apart = partial(_on_case, case, stack), stack.spacing[2]
        seen &= on_case(np.broadcast_to(fit.seen, image.shape))
        images = fit.apply(image)
        raw, _, batch_size = slice_maps(backbone, list(adapters.values()), images, batch_size, part, spacing=apart)
        for row, maps in zip(adapters, raw, strict=True):
            try:
                check_finite(row, backbone, maps)
            except ZSADCLIPError as error:
                failed[row] = error
                continue
            fusions[row].add(on_case(_blurred(fit.back(maps), score)))
    return {row: failed.get(row) or fusion.result() for row, fusion in fusions.items()}, seen


def _on_case(case: CaseSlices, stack: SliceStack, slices: np.ndarray) -> np.ndarray:
    """Slices of another plane as those (N, R, C) of the case."""
    return case.stack.arrange(stack.restore(slices))[case.taken]


def _blurred(maps: np.ndarray, score: Score) -> np.ndarray:
    """Maps (N, R, C) with the blur in the plane of the profile section `score`."""
    if score.gaussian_sigma is None or score.gaussian_sigma == 0:
        return maps
    return ndimage.gaussian_filter(maps, (0, score.gaussian_sigma, score.gaussian_sigma))


def _evaluated(maps: np.ndarray, layers: int, case: CaseSlices, seen: np.ndarray, score: Score) -> np.ndarray:
    """Raw maps (N, R, C), sums over `layers`, with the smoothing, scale and background of the profile section `score`."""
    if score.smooth_mm:
        maps = smoothed(maps, case.brain & seen, case.spacing, score.smooth_mm, score.smooth)
    maps = scaled(maps, case.brain, score.scale, layers)
    return np.ascontiguousarray(zeroed_background(maps, case.brain) if score.background == "zero" else maps)
