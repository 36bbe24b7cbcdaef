"""Before anything else: the torchvision remedy, and no network."""

import os

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import common.torchvision_remedy  # noqa: F401  (must come before whatever imports torchvision)
