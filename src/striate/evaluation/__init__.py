"""How well a network does on images whose classes are known.

`ensembles`, several networks together, and `robustness`, changed images, are loaded by what asks for them: every
training imports this.
"""

from striate.evaluation.labels import matched as matched
from striate.evaluation.of_run import evaluate_run as evaluate_run
from striate.evaluation.protocols import check_views as check_views
from striate.evaluation.single_crop import evaluate as evaluate
from striate.evaluation.table import Evaluation as Evaluation
