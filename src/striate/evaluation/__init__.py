"""How well a network does on images whose classes are known."""

from striate.evaluation.labels import matched as matched
from striate.evaluation.of_run import evaluate_run as evaluate_run
from striate.evaluation.protocols import check_views as check_views
from striate.evaluation.single_crop import evaluate as evaluate
from striate.evaluation.table import Evaluation as Evaluation
