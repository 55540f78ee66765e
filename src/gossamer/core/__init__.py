"""Small values that every room shares. Imports nothing of ours; nothing here waits, reads a clock or a file."""
