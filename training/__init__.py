import common.late_torchmetrics  # noqa: F401  (before Lightning, which imports torchmetrics)
