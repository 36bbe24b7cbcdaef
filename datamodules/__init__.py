import common.torchvision_remedy  # noqa: F401  (before Lightning, which imports torchvision)
