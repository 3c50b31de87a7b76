"""The machine and how it is used: allocator, threads, device, precision, seeds, compiler, start and end of a command.

Importing this costs nothing: torch is imported by the functions that need it, since `tune_allocator` only helps when
it runs before torch does.
"""

from striate.runtime.allocator import tune_allocator as tune_allocator
from striate.runtime.compiler import compiled as compiled
from striate.runtime.compiler import why_not_compiled as why_not_compiled
from striate.runtime.facts import environment as environment
from striate.runtime.facts import usable_memory as usable_memory
from striate.runtime.hardware import autocast as autocast
from striate.runtime.hardware import denormals_flushed as denormals_flushed
from striate.runtime.hardware import pick_device as pick_device
from striate.runtime.hardware import processor_has_bf16 as processor_has_bf16
from striate.runtime.hardware import resolve_precision as resolve_precision
from striate.runtime.process import end_process as end_process
from striate.runtime.process import mark_command as mark_command
from striate.runtime.process import prepare_torch as prepare_torch
from striate.runtime.process import seconds_of_start as seconds_of_start
from striate.runtime.randomness import kept_random_state as kept_random_state
from striate.runtime.randomness import random_state as random_state
from striate.runtime.randomness import restore_random_state as restore_random_state
from striate.runtime.randomness import seed_everything as seed_everything
from striate.runtime.threads import allowed_cores as allowed_cores
from striate.runtime.threads import free_cores as free_cores
from striate.runtime.threads import look_at_load as look_at_load
from striate.runtime.threads import pick_threads as pick_threads
from striate.runtime.threads import set_threads as set_threads
from striate.runtime.threads import thread_limit as thread_limit
from striate.runtime.threads import usable_cores as usable_cores
