"""The results folder: records without torch, weights by safetensors; every file written whole."""
