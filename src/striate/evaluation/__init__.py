"""How well a network does on images whose classes are known."""

from striate.evaluation.ensembles import evaluate_ensemble as evaluate_ensemble
from striate.evaluation.ensembles import evaluate_networks as evaluate_networks
from striate.evaluation.ensembles import place_of as place_of
from striate.evaluation.ensembles import told_apart as told_apart
from striate.evaluation.labels import matched as matched
from striate.evaluation.of_run import evaluate_run as evaluate_run
from striate.evaluation.protocols import check_views as check_views
from striate.evaluation.single_crop import evaluate as evaluate
from striate.evaluation.table import Evaluation as Evaluation
