"""What is read back from disk: the shape of each file, one module each, and values that cannot be.

Unknown fields are left alone: a later version may have written them. What is missing, of another
type or impossible is an error that names the file and the field (docs/adr/0021).
"""
