"""What scripts/bench-peers is made of: one module for each noun."""
