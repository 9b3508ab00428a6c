from .diagnose_arrays import Diagnosis as Diagnosis
from .diagnose_arrays import diagnose as diagnose
from .evaluate_model import evaluate as evaluate
from .metric import Metric as Metric
from .metric import Report as Report
