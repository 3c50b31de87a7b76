"""How a network bears images that are corrupted, moved, turned or attacked."""

from striate.evaluation.robustness.asking import check_robustness as check_robustness
from striate.evaluation.robustness.asking import robustness_of as robustness_of
from striate.evaluation.robustness.attacks import fgsm as fgsm
from striate.evaluation.robustness.attacks import pgd as pgd
from striate.evaluation.robustness.corruptions import corrupt as corrupt
from striate.evaluation.robustness.result import Robustness as Robustness
from striate.evaluation.robustness.sweeps import changed as changed
from striate.evaluation.robustness.writing import FIGURES as FIGURES
from striate.evaluation.robustness.writing import write_robustness as write_robustness
