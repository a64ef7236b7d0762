"""Codes of what objects say: findings, the region that the prompts spoke of, sides and scores (SNOMED CT, DICOM, UCUM)."""

from __future__ import annotations

SCHEME = "99ZSADCLIP"
ALTERED = ("49755003", "SCT", "Morphologically Altered Structure")
LESION = ("52988006", "SCT", "Lesion")
VOLUME = ("118565006", "SCT", "Volume")
SCORE = ("score", SCHEME, "Anomaly score")
COUNT = ("findings", SCHEME, "Number of findings")
FIRST_IMAGE = ("first-image", SCHEME, "Number of the first image")
LAST_IMAGE = ("last-image", SCHEME, "Number of the last image")
PROCEDURE = ("363679005", "SCT", "Imaging procedure")
PROCESSED = ("121322", "DCM", "Source image for image processing operation")
CALCULATED = ("112187", "DCM", "Unspecified method of calculation")
BODY = ("38266002", "SCT", "Entire body")
REGIONS = {
    "brain": (("12738006", "SCT", "Brain"), "BRAIN"),
    "head": (("69536005", "SCT", "Head"), "HEAD"),
    "neck": (("45048000", "SCT", "Neck"), "NECK"),
    "spine": (("421060004", "SCT", "Spine"), "SPINE"),
    "chest": (("816094009", "SCT", "Chest"), "CHEST"),
    "lung": (("39607008", "SCT", "Lung"), "LUNG"),
    "heart": (("80891009", "SCT", "Heart"), "HEART"),
    "breast": (("76752008", "SCT", "Breast"), "BREAST"),
    "abdomen": (("818981001", "SCT", "Abdomen"), "ABDOMEN"),
    "liver": (("10200004", "SCT", "Liver"), "LIVER"),
    "spleen": (("78961009", "SCT", "Spleen"), "SPLEEN"),
    "pancreas": (("15776009", "SCT", "Pancreas"), "PANCREAS"),
    "kidney": (("64033007", "SCT", "Kidney"), "KIDNEY"),
    "pelvis": (("816092008", "SCT", "Pelvis"), "PELVIS"),
    "prostate": (("41216001", "SCT", "Prostate"), "PROSTATE"),
    "knee": (("72696002", "SCT", "Knee"), "KNEE"),
    "hip": (("29836001", "SCT", "Hip"), "HIP"),
    "shoulder": (("16982005", "SCT", "Shoulder"), "SHOULDER"),
}
"""Objects of prompts with a code of their own (PS3.16, CID 4031) and the word for BodyPartExamined."""
SIDES = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}
"""Sides of findings with a code (PS3.16, CID 244); there is none for the midline."""


def region_of(name: str) -> tuple[tuple[str, str, str] | None, str]:
    """The code of an object that prompts speak of and its BodyPartExamined; (None, "") for one without."""
    words = [word.rstrip("s") for word in name.casefold().replace("-", " ").split()]
    return next((REGIONS[word] for word in reversed(words) if word in REGIONS), (None, ""))


def code(term: tuple[str, str, str]):
    """A term as highdicom's coded concept."""
    from highdicom.sr import CodedConcept

    return CodedConcept(*term)
