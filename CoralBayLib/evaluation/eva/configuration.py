"""Configurations for eva's runner: one encoder, one task, the protocol of eva's radiology board. Imports no torch.

The protocol, as in eva's configurations for BTCV, LiTS17 and MSD pancreas: the encoder is frozen; a SwinUNETR decoder is
trained on crops of 96^3 voxels, 4 from each of 2 scans in a step, at 1.5 mm, -175 to 250 HU; AdamW, cosine from 1e-3 to 1e-4,
weight decay 0.01; Dice and cross-entropy; windows that overlap by 0.75 in validation; 5 runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .tasks import PACKAGE, Task

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder

_STRIDES, _WIDTHS = (1, 2, 4, 8, 16, 32), (1, 1, 2, 4, 8, 16)
_HERE = "CoralBayLib.evaluation.eva"
_FEATURE_SIZE = 48


def configuration(
    task: Task, encoder: Encoder, weights: str | None = None, encoder_file: str | None = None, own_range: bool | None = None
) -> str:
    """Write the configuration of one task and one encoder.

    Args:
        task: what is evaluated.
        encoder: the encoder, which tells its levels.
        weights: its local weights file, as it was loaded with.
        encoder_file: the Python file that registers it.
        own_range: give the encoder its own range of HU instead of that of eva's backbones; by default for encoders other than
            CoralBay, which was made for any range.

    Returns:
        YAML for `eva fit --config FILE`.
    """
    size = _swin_unetr_size(encoder)
    own = encoder.name != "coralbay" if own_range is None else own_range
    backbone = {
        "encoder": encoder.name,
        "weights": weights,
        "encoder_file": encoder_file,
        "own_range": own,
        "as_decoder_takes": bool(size),
    }
    if size:
        decoder = "eva.vision.models.networks.decoders.segmentation.SwinUNETRDecoderWithProjection"
        options = [f"feature_size: {size}"]
    else:
        decoder = f"{_HERE}.decoder.BridgedDecoder"
        levels = [[each.channels, list(each.stride), list(each.offset)] for each in encoder.levels]
        options = [f"feature_size: ${{oc.env:FEATURE_SIZE, {_FEATURE_SIZE}}}", f"levels: {json.dumps(levels)}"]
    inner = "\n".join(f"        {key}: {json.dumps(value)}" for key, value in backbone.items() if value is not None)
    labels = "\n".join(f"              - {json.dumps(f'{n}_{label}')}" for n, label in enumerate(task.labels))
    download = "\n          download: ${oc.env:DOWNLOAD_DATA, false}" if task.downloads else ""
    return _TEMPLATE.format(
        package=PACKAGE,
        task=task.name,
        encoder=encoder.name,
        weights_sha256=encoder.weights_sha256,
        max_steps=task.max_steps,
        backbone=f"{_HERE}.backbone.Backbone",
        backbone_args=inner,
        decoder=decoder,
        decoder_args="\n".join(f"        {option}" for option in options),
        classes=len(task.labels),
        labels=labels,
        data_class=f"eva.vision.datasets.{task.data_class}",
        download=download,
    )


def _swin_unetr_size(encoder: Encoder) -> int:
    """The feature size of an encoder whose maps are those of a SwinUNETR; 0 for others."""
    levels = encoder.levels
    first = levels[0].channels
    if len(levels) != len(_STRIDES):
        return 0
    fits = all(
        (level.channels, level.stride, level.offset) == (width * first, (stride,) * 3, ((stride - 1) / 2,) * 3)
        for level, stride, width in zip(levels, _STRIDES, _WIDTHS, strict=True)
    )
    return first if fits else 0


_COMMON = """\
                - class_path: eva.vision.data.transforms.EnsureChannelFirst
                  init_args:
                    channel_dim: 1
                - class_path: eva.vision.data.transforms.Spacing
                  init_args:
                    pixdim: ${{oc.env:SPACING, [1.5, 1.5, 1.5]}}
                - class_path: eva.vision.data.transforms.ScaleIntensityRange
                  init_args:
                    input_range: [-175.0, 250.0]
                    output_range: [0.0, 1.0]
                - class_path: eva.vision.data.transforms.CropForeground
"""

_TEMPLATE = (
    """\
# Written by CoralBay for {package}: {encoder} (weights {weights_sha256}) on {task}.
# Run it with: DATA_ROOT=/data/{task} eva fit --config FILE
---
trainer:
  class_path: eva.Trainer
  init_args:
    n_runs: ${{oc.env:N_RUNS, 5}}
    default_root_dir: &OUTPUT_ROOT ${{oc.env:OUTPUT_ROOT, logs/{encoder}/{task}}}
    max_steps: &MAX_STEPS ${{oc.env:MAX_STEPS, {max_steps}}}
    val_check_interval: ${{oc.env:VAL_CHECK_INTERVAL, 500}}
    max_epochs: null
    check_val_every_n_epoch: null
    checkpoint_type: best
    num_sanity_val_steps: 0
    log_every_n_steps: ${{oc.env:LOG_EVERY_N_STEPS, 100}}
    accelerator: ${{oc.env:ACCELERATOR, auto}}
    devices: ${{oc.env:NUM_DEVICES, 1}}
    callbacks:
      - class_path: eva.callbacks.ConfigurationLogger
      - class_path: lightning.pytorch.callbacks.ModelCheckpoint
        init_args:
          filename: best
          save_last: false
          save_top_k: 1
          monitor: val/DiceScore
          mode: max
    logger:
      - class_path: lightning.pytorch.loggers.TensorBoardLogger
        init_args:
          save_dir: *OUTPUT_ROOT
          name: ""
model:
  class_path: eva.vision.models.modules.SemanticSegmentationModule
  init_args:
    encoder:
      class_path: {backbone}
      init_args:
{backbone_args}
    decoder:
      class_path: {decoder}
      init_args:
        out_channels: &NUM_CLASSES {classes}
{decoder_args}
    spatial_dims: 3
    inferer:
      class_path: monai.inferers.SlidingWindowInferer
      init_args:
        roi_size: &ROI_SIZE [96, 96, 96]
        sw_batch_size: ${{oc.env:SW_BATCH_SIZE, 8}}
        overlap: ${{oc.env:SW_OVERLAP, 0.75}}
    criterion:
      class_path: monai.losses.DiceCELoss
      init_args:
        include_background: false
        to_onehot_y: true
        softmax: true
        batch: true
    lr_multiplier_encoder: 0.0
    optimizer:
      class_path: torch.optim.AdamW
      init_args:
        lr: 0.001
        betas: [0.9, 0.999]
        weight_decay: 0.01
    lr_scheduler:
      interval: step
      scheduler:
        class_path: torch.optim.lr_scheduler.CosineAnnealingLR
        init_args:
          T_max: *MAX_STEPS
          eta_min: 0.0001
    postprocess:
      predictions_transforms:
        - class_path: eva.core.models.transforms.AsDiscrete
          init_args:
            argmax: true
            to_onehot: *NUM_CLASSES
      targets_transforms:
        - class_path: eva.core.models.transforms.AsDiscrete
          init_args:
            to_onehot: *NUM_CLASSES
    metrics:
      common:
        - class_path: eva.metrics.AverageLoss
      evaluation:
        - class_path: torchmetrics.segmentation.DiceScore
          init_args:
            num_classes: *NUM_CLASSES
            include_background: false
            average: macro
            input_format: one-hot
        - class_path: torchmetrics.ClasswiseWrapper
          init_args:
            metric:
              class_path: eva.vision.metrics.MonaiDiceScore
              init_args:
                include_background: true
                num_classes: *NUM_CLASSES
                input_format: one-hot
                reduction: none
            prefix: DiceScore_
            labels:
{labels}
data:
  class_path: eva.DataModule
  init_args:
    datasets:
      train:
        class_path: {data_class}
        init_args: &DATASET_ARGS
          root: ${{oc.env:DATA_ROOT, ./data/{task}}}
          split: train{download}
          transforms:
            class_path: torchvision.transforms.v2.Compose
            init_args:
              transforms:
"""
    + _COMMON
    + """\
                - class_path: eva.vision.data.transforms.SpatialPad
                  init_args:
                    spatial_size: *ROI_SIZE
                - class_path: eva.vision.data.transforms.RandCropByLabelClasses
                  init_args:
                    spatial_size: *ROI_SIZE
                    num_samples: ${{oc.env:SAMPLE_BATCH_SIZE, 4}}
                    num_classes: *NUM_CLASSES
                - class_path: eva.vision.data.transforms.RandFlip
                  init_args:
                    spatial_axes: [0, 1, 2]
                - class_path: eva.vision.data.transforms.RandRotate90
                  init_args:
                    spatial_axes: [1, 2]
                - class_path: eva.vision.data.transforms.RandScaleIntensity
                  init_args:
                    factors: 0.1
                    prob: 0.1
                - class_path: eva.vision.data.transforms.RandShiftIntensity
                  init_args:
                    offsets: 0.1
                    prob: 0.1
      val:
        class_path: {data_class}
        init_args:
          <<: *DATASET_ARGS
          split: val
          transforms:
            class_path: torchvision.transforms.v2.Compose
            init_args:
              transforms:
"""
    + _COMMON
    + """\
    dataloaders:
      train:
        batch_size: ${{oc.env:BATCH_SIZE, 2}}
        num_workers: &N_DATA_WORKERS ${{oc.env:N_DATA_WORKERS, 8}}
        shuffle: true
        collate_fn: eva.vision.data.dataloaders.collate_fn.collection_collate
        worker_init_fn: eva.vision.data.dataloaders.seed_worker
      val:
        batch_size: 1
        num_workers: *N_DATA_WORKERS
"""
)
