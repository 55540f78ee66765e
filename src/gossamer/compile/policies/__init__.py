"""Who may call a workload, as Envoy decides it.

Invariant: a listener names policy and never contains it. Each chain is born with slots (`slots`), filters whose
configuration comes by ECDS under a name that never changes; what a slot holds (`rbac`) does.
"""
