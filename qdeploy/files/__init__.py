"""What stands on disk: directories that are whole or absent, their manifests and schemas."""
