import common.late_torchmetrics
import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
