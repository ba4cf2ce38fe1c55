"""Recipes that come with gapjax, and the making of its embedded model."""
