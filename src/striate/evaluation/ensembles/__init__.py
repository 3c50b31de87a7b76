"""Several networks that answer together, and the average of their weights.

spelling   which words on a command line name networks, and which one the data
members    the networks, opened, with their classes in one order; snapshots of a run
averaging  the mean of their probabilities, and what each member adds to it
soup       one network whose weights are the mean of theirs
of_runs    `evaluate_ensemble`: all of it over a split
"""

from striate.evaluation.ensembles.of_runs import evaluate_ensemble as evaluate_ensemble
from striate.evaluation.ensembles.of_runs import evaluate_networks as evaluate_networks
from striate.evaluation.ensembles.of_runs import place_of as place_of
from striate.evaluation.ensembles.spelling import told_apart as told_apart
