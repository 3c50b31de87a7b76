"""Transfer learning that measures: probing of networks that are there, the plan that follows, and its training."""
