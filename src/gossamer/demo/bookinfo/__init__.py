"""Bookinfo, the small bookshop that people know from Istio, written anew: four services, each a process of its own.

They speak plain HTTP, know nothing of the mesh, and pass on the headers that an application in a mesh must pass on.
"""
