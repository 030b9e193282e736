"""Backbones: from what a view shows to features of the crystal."""
