"""What each kind asks beyond its types: Istio's documented validation, one module a family of kinds.

Invariant: a rule looks at one resource alone, says everything that is wrong with it, and raises nothing.
"""
