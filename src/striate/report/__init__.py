"""A run folder as one HTML file that needs no network, and several of them side by side."""

from striate.report.comparison import compare_runs as compare_runs
from striate.report.comparison import write_comparison as write_comparison
from striate.report.diagnosis import Finding as Finding
from striate.report.diagnosis import diagnose as diagnose
from striate.report.page import write_report as write_report
