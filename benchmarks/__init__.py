"""How fast and how large the control plane is: `python -m benchmarks`."""
