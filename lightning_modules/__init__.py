import common.late_torchmetrics  # noqa: F401  (before Lightning, which imports torchmetrics)
import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
