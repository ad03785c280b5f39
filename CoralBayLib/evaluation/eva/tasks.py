"""The segmentation tasks of eva's radiology board whose data sets are in kaiko-eva 0.4.5. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "kaiko-eva[vision]==0.4.5"
"""What the configurations are written for, as pip takes it."""
PARSER = "jsonargparse==4.41.0"
"""What eva reads configurations with; 4.53 does not accept eva's own loss in one."""


@dataclass(frozen=True)
class Task:
    """A data set of eva.

    Attributes:
        name: of the task, as in eva's configurations.
        data_class: its class in `eva.vision.datasets`.
        labels: names of its labels, the background first.
        max_steps: steps of training, as in eva's configuration.
        downloads: whether eva can download it, after the user has set DOWNLOAD_DATA=true.
    """

    name: str
    data_class: str
    labels: tuple[str, ...]
    max_steps: int = 30000
    downloads: bool = True


_BTCV = (
    "spleen right_kidney left_kidney gallbladder esophagus liver stomach aorta inferior_vena_cava "
    "portal_and_splenic_vein pancreas right_adrenal_gland left_adrenal_gland"
)
_WORD = (
    "liver colon intestine adrenal rectum bladder Head_of_femur_L Head_of_femur_R spleen left_kidney right_kidney stomach "
    "gallbladder esophagus pancreas duodenum"
)
_FLARE = (
    "liver esophagus stomach duodenum left_kidney right_kidney spleen pancreas aorta inferior_vena_cava "
    "right_adrenal_gland left_adrenal_gland gallbladder"
)


def _labels(names: str) -> tuple[str, ...]:
    return ("background", *names.split())


TASKS = {
    task.name: task
    for task in (
        Task("btcv", "BTCV", _labels(_BTCV), 20000),
        Task("lits17", "LiTS17", _labels("liver tumor"), downloads=False),
        Task("msd_task7_pancreas", "MSDTask7Pancreas", _labels("pancreas cancer")),
        Task("word", "WORD", _labels(_WORD)),
        Task("flare22", "FLARE22", _labels(_FLARE)),
        Task("kits23", "KiTS23", _labels("kidney tumor cyst")),
    )
}
"""By name. Steps of BTCV, LiTS17 and MSD pancreas are those of eva's repository; it has no configuration for the others."""
