"""Every option once: `declare` is how, `sections` is which, `recipes` reads and writes them as TOML files."""

from striate.options.augment import AugmentOptions as AugmentOptions
from striate.options.by_name import sections_of as sections_of
from striate.options.declare import Option as Option
from striate.options.declare import from_mapping as from_mapping
from striate.options.declare import merged as merged
from striate.options.declare import option as option
from striate.options.declare import options_of as options_of
from striate.options.declare import to_mapping as to_mapping
from striate.options.evaluate import EvaluateOptions as EvaluateOptions
from striate.options.explain import ExplainOptions as ExplainOptions
from striate.options.inference import InferenceOptions as InferenceOptions
from striate.options.recipes import load_recipe as load_recipe
from striate.options.recipes import recipe_names as recipe_names
from striate.options.recipes import write_recipe as write_recipe
from striate.options.robustness import RobustnessOptions as RobustnessOptions
from striate.options.sections import DataOptions as DataOptions
from striate.options.sections import ModelOptions as ModelOptions
from striate.options.sections import OptimizerOptions as OptimizerOptions
from striate.options.sections import RegularizeOptions as RegularizeOptions
from striate.options.sections import RuntimeOptions as RuntimeOptions
from striate.options.sections import ScheduleOptions as ScheduleOptions
from striate.options.sections import TrainingOptions as TrainingOptions
from striate.options.sections import TrainOptions as TrainOptions
from striate.options.transfer import TransferOptions as TransferOptions
