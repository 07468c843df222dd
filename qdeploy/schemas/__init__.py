"""The type of each document, one module for each: what is written, and what is read back.

A document is a plain dictionary of its type, ready for JSON; msgspec holds files against the same
type (docs/adr/0021, 0029). Unknown fields are left alone: a later version may have written them.
What is missing, of another type or impossible is an error that names the file and the field.
"""
