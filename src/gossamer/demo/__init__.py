"""The example that ships with Gossamer: an application and a mesh for it. Imports nothing else of gossamer."""
