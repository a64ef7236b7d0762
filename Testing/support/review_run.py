"""A small finished run on disk, sealed by the engine's own code; the map is made by hand, so that every number is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import affine

from ZSADCLIPLib.detection.case import run_case
from ZSADCLIPLib.detection.detector import Detection
from ZSADCLIPLib.detection.findings import find
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.progress import silent
from ZSADCLIPLib.review.verdicts import CaseReview, Judged, Review
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.planes import slice_in
from ZSADCLIPLib.volumes.reading import write_volume

SHAPE = (40, 48, 32)
THRESHOLD = 0.5
BALLS = (((12, 20, 10), 4, 0.9), ((28, 30, 20), 3, 0.8), ((20, 12, 24), 2, 0.7))
"""Centre, radius and height of the findings; the smallest is marked as such nowhere."""


def image_and_map(seed: int = 0, matrix: np.ndarray | None = None) -> tuple[Volume, Volume]:
    """A head of noise in 0 to 1000 and a map with three balls above 0.5."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.indices(SHAPE), -1).astype(float)
    head = (((grid - np.array(SHAPE) / 2) / (np.array(SHAPE) * 0.46)) ** 2).sum(-1) < 1
    image = np.where(head, 300 + 40 * rng.standard_normal(SHAPE), 0)
    map = np.where(head, 0.1 + 0.05 * rng.random(SHAPE), 0.05)
    for centre, radius, height in BALLS:
        distance = np.linalg.norm(grid - centre, axis=-1)
        ball = distance <= radius
        image[ball], map[ball] = image[ball] + 300, height - 0.02 * distance[ball]
    matrix = affine((1.0, 1.0, 2.0), (-20.0, -24.0, -32.0)) if matrix is None else matrix
    volume = Volume(np.clip(image, 0, 1000).astype(np.int16), matrix, "head")
    return volume, volume.with_array(map.astype(np.float32))


class ByHand:
    """A detector whose map is known."""

    def __init__(self, map: np.ndarray):
        self._map = map

    def detect(self, volume: Volume, brain=None, progress=silent) -> Detection:
        map, stack = volume.with_array(self._map), slice_in(volume, "axial")[0]
        mask = self._map >= THRESHOLD
        return Detection(
            map=map,
            mask=volume.with_array(mask.astype(np.uint8)),
            slice_scores=np.full(len(stack.array), 0.4),
            volume_score=float(self._map.max()),
            findings=find(map, mask, stack),
            threshold=THRESHOLD,
            threshold_rule="fixed:0.5",
            display={"lo": 0.0, "hi": 1.0},
            provenance={
                "adapter": {"method": "by-hand"},
                "backbone": {"name": "none"},
                "preprocessing": {"plane": "axial", "window": None, "skull_stripped": True},
            },
            notes=(),
            stack=stack,
            image=np.clip(stack.array // 4, 0, 255).astype(np.uint8),
            brain=np.ones(volume.shape, bool),
        )


def review_run(
    folder: Path, ids=("first", "second"), pictures: bool = False, matrix=None
) -> tuple[Path, dict[str, Path]]:
    """(the run's folder, the image of each case by its id)."""
    out, images = folder / "out", {}
    out.mkdir(parents=True)
    for seed, name in enumerate(ids):
        volume, map = image_and_map(seed, matrix)
        images[name] = folder / "scans" / f"{name}.nii.gz"
        write_volume(images[name], volume)
        job = Detect((str(images[name]),), str(out), pictures=pictures)
        (out / ".zsadclip.lock").touch()
        item = {"id": name, "image": str(images[name]), "mask": None, "settings": "0" * 16, "run": ""}
        row = run_case(job.case_run, lambda map=map: ByHand(map.array), item, silent)
        assert row["status"] == "done", row
    (out / ".zsadclip.lock").unlink()
    return out, images


def opinion(case, verdicts: dict[int, str], missed=(), finished: bool = True) -> CaseReview:
    """What a reader says of a finished case: verdicts by rank."""
    by_rank = {finding["rank"]: finding for finding in case.facts["findings"]}
    judged = tuple(
        Judged(by_rank[rank]["label"], tuple(by_rank[rank]["peak_ras"]), verdict, "", rank)
        for rank, verdict in verdicts.items()
    )
    return CaseReview(case.id, case.seal, None, judged, tuple(missed), finished, 10.0)


def review(reader: str, *cases: CaseReview) -> Review:
    return Review(reader, cases)
