"""The scripted tour of the example mesh: real requests, printed figures, and a verdict a step.

Invariant: nothing here knows how the mesh was started. A step sees a `RunningMesh`, sends requests as any client would,
edits files as a person would, and says what it expected and what it saw.
"""
