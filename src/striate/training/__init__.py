"""The training story: `run` tells it, `epoch` is one pass, `session` what it works on, `planning` what it measures.

With copied weights, `transferring` says what is left open, `freezing` what stays as it is. Other ways to come by
weights end as a run does with `finishing`; `trial` trains without leaving anything behind.
"""

from striate.training.finishing import finish_run as finish_run
from striate.training.finishing import training_batches as training_batches
from striate.training.repeat import RepeatResult as RepeatResult
from striate.training.repeat import repeat as repeat
from striate.training.run import resume as resume
from striate.training.run import train as train
from striate.training.transferring import scenario_of as scenario_of
from striate.training.trial import Trial as Trial
from striate.training.trial import try_out as try_out
