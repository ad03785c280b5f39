"""Codes for the names of structures, as DICOM SEG files and Slicer's segments hold them.

The codes are of SNOMED CT, as far as DICOM uses it (PS3.16, "SNOMED Concepts"); the meanings are DICOM's. A test compares
both with pydicom's copy of that list. A name that is not known is a "Tissue", as in Slicer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from CoralBayLib.core.names import fold


@dataclass(frozen=True)
class Code:
    """A concept of SNOMED CT.

    Attributes:
        value: its number, as text.
        meaning: what it means, in DICOM's words.
    """

    value: str
    meaning: str


@dataclass(frozen=True)
class Term:
    """What a segment is.

    Attributes:
        category: the kind of thing, such as an anatomical structure.
        kind: the structure itself.
        side: left or right; None where the name tells none.
    """

    category: Code
    kind: Code
    side: Code | None = None

    @property
    def is_known(self) -> bool:
        """Whether the name was known."""
        return self.kind != _TISSUE

    @property
    def slicer_entry(self) -> str:
        """The entry of Slicer's terminology module, as its segments hold it."""
        # Slicer lists its structures under these codes; DICOM has replaced the first and reworded the second.
        category = _IN_SLICER.get(self.category, self.category)
        parts = [f"SCT^{each.value}^{each.meaning}" if each else "^^" for each in (category, self.kind, self.side)]
        return f"{_CONTEXT}~{'~'.join(parts)}~Anatomic codes - DICOM master list~^^~^^"


_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_TISSUE = Code("85756007", "Tissue")
_ANATOMY = Code("91723000", "Anatomical Structure")
_ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
_IN_SLICER = {
    _ANATOMY: Code("123037004", "Anatomical Structure"),
    _ABNORMAL: Code("49755003", "Morphologically Altered Structure"),
}
_SIDES = {
    **dict.fromkeys(("left", "l", "lt"), Code("7771000", "Left")),
    **dict.fromkeys(("right", "r", "rt"), Code("24028007", "Right")),
}

_STRUCTURES = """
10200004 Liver: liver
78961009 Spleen: spleen
15776009 Pancreas: pancreas
64033007 Kidney: kidney
23451007 Adrenal gland: adrenal gland, adrenal, suprarenal gland
28231008 Gallbladder: gallbladder, gall bladder
69695003 Stomach: stomach
38848004 Duodenum: duodenum
30315005 Small intestine: small bowel, small intestine
71854001 Colon: colon
34402009 Rectum: rectum
32849002 Esophagus: esophagus, oesophagus
89837001 Bladder: urinary bladder, bladder
41216001 Prostate: prostate
35039007 Uterus: uterus
39607008 Lung: lung
45653009 Upper lobe of lung: lung upper lobe, upper lobe of lung, upper lobe
90572001 Lower lobe of lung: lung lower lobe, lower lobe of lung, lower lobe
72481006 Middle lobe of right lung: lung middle lobe, middle lobe of lung, middle lobe
44567001 Trachea: trachea
955009 Bronchus: bronchus
80891009 Heart: heart
15825003 Aorta: aorta
64131007 Inferior vena cava: inferior vena cava, ivc, vena cava inferior
48345005 Superior vena cava: superior vena cava, svc, vena cava superior
81040000 Pulmonary artery: pulmonary artery
32764006 Portal vein: portal vein
73634005 Common iliac artery: iliac artery, common iliac artery
72410000 Mediastinum: mediastinum
12738006 Brain: brain
119238007 Brain Stem: brain stem, brainstem
113305005 Cerebellum: cerebellum
2748008 Spinal cord: spinal cord, myelon
18234004 optic nerve: optic nerve
81745001 Eye: eye, eyeball, globe
45289007 Parotid gland: parotid gland, parotid
54019009 Submandibular gland: submandibular gland, submandibular
69748006 Thyroid: thyroid, thyroid gland
4596009 Larynx: larynx
54066008 Pharynx: pharynx
21974007 Tongue: tongue
91609006 Mandible: mandible
89546000 Skull: skull
51282000 Vertebra: vertebra
421060004 Spine: vertebral column, spine
122494005 Cervical spine: cervical spine, cervical vertebral column
122495006 Thoracic spine: thoracic spine, thoracic vertebral column
122496007 Lumbar spine: lumbar spine, lumbar vertebral column
54735007 Sacrum: sacrum
12611008 Tibia: tibia
71341001 Femur: femur
29836001 Hip: hip
85050009 Humerus: humerus
79601000 Scapula: scapula
51299004 Clavicle: clavicle, clavicula
56873002 Sternum: sternum
113197003 Rib: rib, ribs
272673000 Bone: bone, bones
127954009 Skeletal muscle: skeletal muscle, muscle, muscles
256674009 Fat: fat
59441001 Lymph Node: lymph node
"""
_FINDINGS = """
108369006 Neoplasm: tumor, tumour, neoplasm, gtv
128462008 Metastasis: metastasis, metastases
4147007 Mass: mass, gtv mass
52988006 Lesion: lesion
27925004 Nodule: nodule, lung nodule
367643001 Cyst: cyst
44132006 Abscess: abscess
50960005 Hemorrhage: hemorrhage, haemorrhage, bleeding
35566002 Hematoma: hematoma, haematoma
"""
_VERTEBRAE = {
    "c": "14806007 39976000 113205007 5329002 36978003 36054005 87391001",
    "t": "64864005 53733008 1626008 73071006 56401006 45296009 62487009 11068009 82687006 7610001 12989004 23215003",
    "l": "66794005 14293000 36470004 11994002 49668003",
}


def term(name: str) -> Term:
    """What a segment of this name is.

    Case, dashes, underscores, words written together in capitals ("LeftParotid"), a side ("left", "l", "rt") and a number
    in brackets make no difference.

    Args:
        name: of a segment, in English.

    Returns:
        Its codes; those of a tissue for a name that is not known.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.sub(r"[\s_.,\-]+", " ", re.sub(r"\(\d+\)\s*$", "", fold(apart))).split()
    sides = [_SIDES[word] for word in words if word in _SIDES]
    if len(set(sides)) > 1:
        return Term(_TISSUE, _TISSUE)
    # One letter may be a part of another name, such as "L 3", the vertebra.
    for rest in (words, [word for word in words if word not in _SIDES]):
        known = _terms().get(" ".join(rest))
        if known is not None:
            return Term(*known, sides[0] if sides and rest is not words else None)
    return Term(_TISSUE, _TISSUE)


def known_codes() -> list[Code]:
    """Every code that `term` may give."""
    parts = [code for pair in _terms().values() for code in pair]
    return sorted({*parts, *_SIDES.values(), _TISSUE}, key=lambda code: code.value)


@cache
def _terms() -> dict[str, tuple[Code, Code]]:
    """Category and code by name."""
    terms: dict[str, tuple[Code, Code]] = {}
    for category, lines in ((_ANATOMY, _STRUCTURES), (_ABNORMAL, _FINDINGS)):
        for line in lines.strip().splitlines():
            concept, names = line.split(": ")
            value, meaning = concept.split(" ", 1)
            terms.update(dict.fromkeys(names.split(", "), (category, Code(value, meaning))))
    for letter, values in _VERTEBRAE.items():
        for number, value in enumerate(values.split(), start=1):
            level = f"{letter}{number}"
            variants = (f"vertebra {level}", f"vertebrae {level}", f"{level} vertebra", level)
            terms.update(dict.fromkeys(variants, (_ANATOMY, Code(value, f"{level.upper()} vertebra"))))
    rib = terms["rib"]
    terms.update({f"rib {number}": rib for number in range(1, 13)})
    return terms
