"""The words of anatomy, disease and imaging that the embedded backbones were taught."""

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a bad photo of a {}.",
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a blurry photo of the {}.",
)
"""Sentences around a word, of those that the models were taught with."""

TISSUES = {
    "background": ("black background", "empty background", "background"),
    "fluid": ("cerebrospinal fluid", "ventricle", "csf"),
    "grey": ("gray matter", "grey matter", "cortex"),
    "white": ("white matter",),
    "bone": ("skull", "bone"),
    "fat": ("fat", "scalp"),
    "muscle": ("muscle", "skin"),
    "eye": ("eye", "eyeball"),
    "air": ("air", "sinus"),
    "oedema": ("oedema", "edema", "swelling"),
    "core": ("tumour core", "tumor core", "tumour"),
    "plaque": ("white matter lesion", "plaque", "white matter hyperintensity"),
    "infarct": ("infarct", "stroke"),
    "scar": ("scar", "gliosis", "cavity"),
    "bleed": ("bleed", "haemorrhage", "hemorrhage"),
}
"""What a patch can show, in the order of the dense captions: the tissues of the mri world (`synthetic.mri`), then lesions."""

LESIONS = tuple(TISSUES)[9:]
BRAIN = ("fluid", "grey", "white", *LESIONS)
"""What lies inside the skull."""

SEQUENCES = {
    "t2w": ("a t2 weighted image", "t2", "a t2 weighted mri", "t2w"),
    "t2f": ("a flair image", "flair", "fluid attenuated inversion recovery"),
    "t1n": ("a t1 weighted image", "t1", "t1 without contrast"),
    "t1c": ("t1 after contrast", "a t1 weighted image after contrast", "contrast enhanced t1"),
    "pd": ("a proton density image", "proton density"),
}
SEQUENCE_LABELS = {"t2w": "T2", "t2f": "FLAIR", "t1n": "T1", "t1c": "T1 with contrast", "pd": "proton density"}
"""What people call them."""

VIEWS = {
    "stripped": ("a skull stripped brain", "skull stripped", "a brain without skull"),
    "head": ("a whole head", "whole head", "a head with skull"),
}
