"""Pictures of the network itself: its filters and maps, what its units respond to and see, and its codes."""
