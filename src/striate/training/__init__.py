"""The training story: `run` tells it, `epoch` is one pass, `session` what it works on, `planning` what it measures."""

from striate.training.repeat import RepeatResult as RepeatResult
from striate.training.repeat import repeat as repeat
from striate.training.run import resume as resume
from striate.training.run import train as train
