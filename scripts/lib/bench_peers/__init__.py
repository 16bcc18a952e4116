"""Modules of scripts/bench-peers: one for each noun."""
