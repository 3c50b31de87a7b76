"""Pictures of what a network sees: which pixels an answer depends on, and what layers respond to."""
