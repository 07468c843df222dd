"""Reports for the eye: one self-contained HTML file, pictures, and a model card."""
