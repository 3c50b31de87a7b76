"""Model files and exact resume states: written whole or not at all, checked when read, and unable to run code.

`atomic` is how a file is written, `model_file` what a network is kept in, `resume_state` what a run goes on from.
"""

from striate.checkpoint.atomic import check_writable as check_writable
from striate.checkpoint.atomic import write_atomically as write_atomically
from striate.checkpoint.model_file import SavedModel as SavedModel
from striate.checkpoint.model_file import load_model as load_model
from striate.checkpoint.model_file import save_model as save_model
from striate.checkpoint.resume_state import load_state as load_state
from striate.checkpoint.resume_state import save_state as save_state
