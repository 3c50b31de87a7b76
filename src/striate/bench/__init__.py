"""How fast a network trains and answers on this machine, beside what the machine can do at most."""

from striate.bench.result import BenchResult as BenchResult
from striate.bench.result import Row as Row
from striate.bench.run import benchmark as benchmark
